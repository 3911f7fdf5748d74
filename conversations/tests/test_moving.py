"""A tenant moves to another installation, with servers, master key and slug of its own, by the operators' commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings

from chatplatform import embedded, tenancy
from chatplatform.testing import cast
from chatplatform.testing.commands import operate
from conversations.models import Conversation, Message
from conversations.services import conversations, knowledge
from conversations.vocabulary import Role
from tenants.services import lifecycle, provisioning
from tenants.services.contacts import contact_for

pytestmark = [pytest.mark.slow, pytest.mark.processes]
SAID = "Do wombats fly, Jürgen?"
Run = Callable[..., str]


@pytest.fixture
def moving(committed: None) -> Iterator[Conversation]:
    """A tenant with a document and a conversation."""
    slug = f"moving-{uuid4().hex[:6]}"
    made, _, _ = provisioning.request_tenant("Moving", slug)
    provisioning.provision(made.id)
    with tenancy.in_tenant(cast.state(slug).ref):
        knowledge.ingest("wombats.md", b"# Wombats\n\nWombats dig burrows, and stay on the ground.\n")
        begun = conversations.begin(contact=contact_for("jane"))
        Message.objects.create(conversation=begun, role=Role.USER, content=SAID)
    begun.slug = slug  # type: ignore[attr-defined]
    yield begun
    lifecycle.erase(slug)


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs Python with these arguments in another installation; what it prints."""
    directory = tmp_path_factory.mktemp("elsewhere")
    environment = {**os.environ, "DATA_DIR": str(directory)}

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, env=environment, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    with embedded.ensure(directory):
        run("manage.py", "migrate_tenants")
        yield run
        key = Path("secrets", "master_key")
        assert (directory / key).read_text() != (settings.DATA_DIR / key).read_text()


def test_a_tenant_lives_on_elsewhere(moving: Conversation, elsewhere: Run, tmp_path: Path) -> None:
    archive = tmp_path / "moving.zip"
    done = operate("export_tenant", moving.slug, str(archive))  # type: ignore[attr-defined]
    assert done.returncode == 0, done.stderr
    elsewhere("manage.py", "import_tenant", str(archive), "--slug", "moved")
    key = json.loads(elsewhere("manage.py", "create_api_key", "moved", "--scope", "chat", "--json"))[
        "api_key"
    ]
    looked = elsewhere("-m", "conversations.tests.look_around", "moved", key, str(moving.id), "JÜRGEN", SAID)
    seen = json.loads(looked)
    assert seen["messages"] == [SAID] and SAID in seen["console"]
    assert seen["found"] and not seen["not_found"]
    assert "Wombats dig burrows" in seen["passages"][0]
