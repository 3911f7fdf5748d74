"""A tenant moves to another installation, with servers, master key and slug of its own, by the operators' commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings

from chatplatform import embedded, tenancy
from chatplatform.testing import cast
from chatplatform.testing.commands import result_of
from conversations.models import Conversation, Message
from conversations.services import conversations, knowledge
from conversations.vocabulary import Role
from tenants.services import lifecycle, provisioning
from tenants.services.contacts import contact_for

pytestmark = [pytest.mark.slow, pytest.mark.processes]
SAID = "Do wombats fly, Jürgen?"


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
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The DATA_DIR of another installation, whose servers run."""
    directory = tmp_path_factory.mktemp("elsewhere")
    with embedded.ensure(directory):
        yield directory


def test_a_tenant_lives_on_elsewhere(moving: Conversation, elsewhere: Path, tmp_path: Path) -> None:
    archive = tmp_path / "moving.zip"
    result_of("export_tenant", moving.slug, str(archive))  # type: ignore[attr-defined]
    command = [sys.executable, "-m", "conversations.tests.look_around"]
    done = subprocess.run(
        [*command, str(archive), "moved", str(moving.id), "JÜRGEN", SAID],
        env={**os.environ, "DATA_DIR": str(elsewhere), "DJANGO_SETTINGS_MODULE": "chatplatform.settings"},
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout)
    assert seen["messages"] == [SAID] and SAID in seen["console"]
    assert seen["found"] and not seen["not_found"]
    assert "Wombats dig burrows" in seen["passages"][0]
    key = Path("secrets", "master_key")
    assert (elsewhere / key).read_text() != (settings.DATA_DIR / key).read_text()
