"""Taking documents in and out, and the command for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from pytest_django import Settings

from chatplatform.tenancy import in_tenant
from conversations.models import Chunk, Document, DocumentStatus
from conversations.services import knowledge
from conversations.services.knowledge import Change, UnreadableDocument
from tenants.selectors import TenantState

DOGS = b"# Dogs\n\nDogs are welcome.\n\n## Cats\n\nCats are not."


def test_it_takes_a_document_in(in_acme: TenantState) -> None:
    done = knowledge.ingest("dogs.md", DOGS, url="https://x.test")
    document = Document.objects.get(id=done.document_id)
    assert (done.change, done.chunks, done.title) == (Change.ADDED, 2, "Dogs")
    assert (document.source, document.url, document.status) == (
        "dogs.md",
        "https://x.test",
        DocumentStatus.READY,
    )
    chunks = list(document.chunks.all())
    assert [(chunk.position, chunk.heading) for chunk in chunks] == [(0, "Dogs"), (1, "Dogs › Cats")]
    assert all(len(chunk.embedding) == chunk.dimension == 256 for chunk in chunks)


def test_the_same_again_changes_nothing(in_acme: TenantState) -> None:
    knowledge.ingest("dogs.md", DOGS)
    before = list(Chunk.objects.values_list("id", flat=True))
    assert knowledge.ingest("dogs.md", DOGS).change is Change.UNCHANGED
    assert list(Chunk.objects.values_list("id", flat=True)) == before


@pytest.mark.parametrize(
    "change", [{"data": DOGS + b" Not at all."}, {"url": "https://x.test"}, {"title": "Pets"}]
)
def test_a_new_version_replaces_the_chunks(in_acme: TenantState, change: dict[str, Any]) -> None:
    first = knowledge.ingest("dogs.md", DOGS)
    before = set(Chunk.objects.values_list("id", flat=True))
    again = knowledge.ingest("dogs.md", **{"data": DOGS, **change})
    assert again.change is Change.CHANGED
    assert again.document_id == first.document_id
    assert not before & set(Chunk.objects.values_list("id", flat=True))
    assert Chunk.objects.count() == again.chunks == 2


def test_a_bad_new_version_leaves_the_old_one_in_use(in_acme: TenantState) -> None:
    knowledge.ingest("dogs.md", DOGS)
    with pytest.raises(UnreadableDocument):
        knowledge.ingest("dogs.md", b"\0\0")
    document = Document.objects.get()
    assert (document.status, document.chunks.count()) == (DocumentStatus.FAILED, 2)
    assert "binary" in document.error
    assert knowledge.ingest("dogs.md", DOGS).change is Change.CHANGED
    document.refresh_from_db()
    assert (document.status, document.error) == (DocumentStatus.READY, "")


def test_a_failure_in_the_middle_leaves_the_old_version(
    in_acme: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    knowledge.ingest("dogs.md", DOGS)

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Chunk.objects, "bulk_create", fail)
    with pytest.raises(RuntimeError):
        knowledge.ingest("dogs.md", b"# New\n\nText.")
    assert Document.objects.get().title == "Dogs"
    assert Chunk.objects.count() == 2


@pytest.mark.parametrize("name", ["", "x" * 501 + ".md", "a\0.md"])
def test_it_refuses_bad_names(in_acme: TenantState, name: str) -> None:
    with pytest.raises(UnreadableDocument, match="name"):
        knowledge.ingest(name, DOGS)


def test_it_forgets_a_document(in_acme: TenantState) -> None:
    done = knowledge.ingest("dogs.md", DOGS)
    assert knowledge.remove_document(done.document_id)
    assert not Chunk.objects.exists()
    assert not knowledge.remove_document(done.document_id)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "dogs.md").write_bytes(DOGS)
    (tmp_path / "hours.txt").write_text("We open at nine.")
    (tmp_path / "logo.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.md").write_bytes(DOGS)
    return tmp_path


def ingest(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    call_command("ingest_knowledge", "acme", *arguments, "--json")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_command_takes_in_folders(
    acme: TenantState, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ingest(capsys, str(folder)) == {
        "tenant": "acme", "added": 2, "changed": 0, "unchanged": 0, "removed": 0, "chunks": 3, "failed": [],
    }  # fmt: skip
    assert ingest(capsys, str(folder))["unchanged"] == 2
    with in_tenant(acme.ref):
        assert list(Document.objects.values_list("source", flat=True)) == ["hours.txt", "pets/dogs.md"]


def test_the_command_forgets_what_is_gone_only_when_asked(
    acme: TenantState, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest(capsys, str(folder))
    (folder / "hours.txt").unlink()
    assert ingest(capsys, str(folder))["removed"] == 0
    assert ingest(capsys, str(folder), "--remove-missing")["removed"] == 1


def test_one_bad_file_does_not_stop_the_others(
    acme: TenantState, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.pdf").write_bytes(b"no PDF")
    with pytest.raises(CommandError) as raised:
        ingest(capsys, str(folder))
    assert raised.value.returncode == 1
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert (result["added"], [one["document"] for one in result["failed"]]) == (2, ["bad.pdf"])
    assert "bad.pdf: The file is not a PDF" in shown.err


def test_documents_that_cannot_be_embedded_are_named(
    acme: TenantState, folder: Path, capsys: pytest.CaptureFixture[str], settings: Settings
) -> None:
    settings.EMBEDDING_MODEL = "text-embedding-of-nobody"
    with pytest.raises(CommandError, match="2 documents"):
        ingest(capsys, str(folder))
    reasons = {one["error"] for one in json.loads(capsys.readouterr().out)["failed"]}
    assert reasons == {"The embedding model 'openai/text-embedding-of-nobody' has no price."}


@pytest.mark.parametrize(
    ("slug", "path", "status"), [("acme", "nowhere", 2), ("nobody", "hours.txt", 1), ("acme", "empty", 1)]
)
def test_the_command_says_what_is_wrong(
    acme: TenantState, folder: Path, slug: str, path: str, status: int
) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(CommandError) as raised:
        call_command("ingest_knowledge", slug, str(folder / path))
    assert raised.value.returncode == status


def test_two_files_of_one_name_are_refused(acme: TenantState, folder: Path) -> None:
    (folder / "dogs.md").write_bytes(DOGS)
    with pytest.raises(CommandError, match="Two documents have the name dogs"):
        call_command("ingest_knowledge", "acme", str(folder / "dogs.md"), str(folder / "pets" / "dogs.md"))
