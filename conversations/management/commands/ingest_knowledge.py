"""`manage.py ingest_knowledge SLUG PATH…`: files and folders into a tenant's knowledge."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from chatplatform.api.problem import Problem
from chatplatform.management.base import Error, PlatformCommand, Result, UsageError
from chatplatform.tenancy import in_tenant
from conversations.rag.parsing import TYPES
from conversations.services import knowledge
from conversations.services.knowledge import Change, UnreadableDocument
from tenants.selectors import tenant_by_slug

KEYS = {Change.ADDED: "added", Change.CHANGED: "changed", Change.UNCHANGED: "unchanged"}
Source = tuple[str, Path]


class Command(PlatformCommand):
    help = (
        "Take documents (Markdown, text, HTML, PDF) into a tenant's knowledge. A folder stands for all such files "
        "below it. Unchanged documents are skipped; one that cannot be read does not stop the others."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", metavar="SLUG", help="The tenant")
        parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="A file or a folder")
        parser.add_argument(
            "--remove-missing",
            action="store_true",
            help="Forget documents that are not among the given files",
        )

    def run(self, *, slug: str, paths: list[Path], remove_missing: bool, **options: Any) -> Result:
        sources = _sources(paths)
        tenant = tenant_by_slug(slug).ref
        result: Result = {"tenant": slug, "added": 0, "changed": 0, "unchanged": 0, "removed": 0, "chunks": 0}
        failed: list[dict[str, str]] = []
        with in_tenant(tenant):
            for name, path in self.progress(sources, lambda source: source[0]):
                try:
                    done = knowledge.ingest(name, _read(path))
                except (UnreadableDocument, Problem, OSError) as error:
                    reason = _reason(error)
                    failed.append({"document": name, "error": reason})
                    self.say(f"{name}: {reason}")
                else:
                    result[KEYS[done.change]] += 1
                    result["chunks"] += done.chunks
            if remove_missing:
                result["removed"] = _remove_missing(sources)
        return {**result, "failed": failed}

    def as_text(self, result: Result) -> str:
        counts = ", ".join(f"{result[key]} {key}" for key in ("added", "changed", "unchanged", "removed"))
        return f"{result['tenant']}: {counts}, {len(result['failed'])} failed; {result['chunks']} chunks."

    def failure(self, result: Result) -> str | None:
        return f"{len(result['failed'])} documents could not be taken in." if result["failed"] else None


def _reason(error: UnreadableDocument | Problem | OSError) -> str:
    if isinstance(error, Problem):
        return error.detail
    return str(error.strerror if isinstance(error, OSError) else error)


def _sources(paths: Sequence[Path]) -> list[Source]:
    """Every document with its name: relative to the folder that was given, or just the file's."""
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise UsageError(f"There is no file or folder {path}.")
        files = sorted(_documents(path)) if path.is_dir() else [path]
        for file in files:
            name = str(file.relative_to(path)) if path.is_dir() else file.name
            if found.setdefault(name, file) != file:
                raise UsageError(f"Two documents have the name {name}: {found[name]} and {file}.")
    if not found:
        raise Error(f"There are no documents there; known are {', '.join(TYPES)}.")
    return list(found.items())


def _documents(folder: Path) -> list[Path]:
    found = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return [path for path in found if path.suffix.lower() in TYPES and not path.name.startswith(".")]


def _read(path: Path) -> bytes:
    """The file's bytes, and one more than is allowed at most: enough to refuse it."""
    with path.open("rb") as file:
        return file.read(knowledge.limits().file_bytes + 1)


def _remove_missing(sources: Sequence[Source]) -> int:
    gone = knowledge.missing(name for name, _ in sources)
    return sum(knowledge.remove_document(document.id) for document in gone)
