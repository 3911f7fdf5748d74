"""`manage.py ensure_demo`: what `make run` has in it on the first day, made once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib.auth import authenticate
from django.db import connection
from django.test.utils import CaptureQueriesContext, override_settings
from pytest_django import Settings

from chatplatform import tenancy
from chatplatform.management import demo
from chatplatform.management.run_file import RunFile
from chatplatform.testing.commands import result_of
from tenants import selectors
from tenants.models import Tenant, User
from tenants.services import api_keys, lifecycle


@pytest.fixture
def run_file(committed: None, settings: Settings, tmp_path: Path) -> Iterator[RunFile]:
    """The run.json of a first start. Erases what the start made, afterwards."""
    settings.DATA_DIR = tmp_path
    yield RunFile(tmp_path)
    with tenancy.in_platform():
        User.objects.filter(username=demo.STAFF).delete()
        exists = Tenant.objects.filter(slug=demo.SLUG).exists()
    if exists:
        lifecycle.erase(demo.SLUG)


def test_the_demo_is_made_once_and_its_secrets_are_shown_once(run_file: RunFile) -> None:
    made = result_of("ensure_demo")
    assert set(made) == {"tenant", "api_key", "staff_user", "staff_password"}
    assert set(api_keys.check(made["api_key"]).scopes) == {
        "chat",
        "knowledge",
        "config",
        "billing:read",
        "analytics",
    }
    with tenancy.in_platform():
        staff = authenticate(username=made["staff_user"], password=made["staff_password"])
        assert staff is not None and staff.is_superuser
    state = selectors.tenant_by_slug("demo")
    assert (state.status, state.name) == ("active", "Heron & Hill")
    assert "Heron & Hill" in state.configuration.greeting

    run_file.update({"api_key": made["api_key"], "staff_password": made["staff_password"]})
    with CaptureQueriesContext(connection) as queries:
        again = result_of("ensure_demo")
    assert again == {**made, "api_key": "", "staff_password": ""}
    assert len([query for query in queries if "set_config" not in query["sql"]]) <= 8, (
        "every start pays for these"
    )


def test_a_lost_run_file_brings_new_secrets(run_file: RunFile) -> None:
    first = result_of("ensure_demo")
    second = result_of("ensure_demo")
    assert second["api_key"] not in ("", first["api_key"])
    with tenancy.in_platform():
        assert authenticate(username="staff", password=first["staff_password"]) is None
        assert authenticate(username="staff", password=second["staff_password"]) is not None


def test_a_revoked_key_is_replaced(run_file: RunFile) -> None:
    made = result_of("ensure_demo")
    run_file.update({"api_key": made["api_key"], "staff_password": made["staff_password"]})
    api_keys.revoke(api_keys.check(made["api_key"]).public_id)
    again = result_of("ensure_demo")
    assert api_keys.check(again["api_key"])
    assert again["staff_password"] == ""


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"api_key": 5}', json.dumps({"api_key": "cp_live_x_y"})])
def test_a_damaged_run_file_brings_new_secrets(run_file: RunFile, damage: str) -> None:
    run_file.path.write_text(damage)
    made = result_of("ensure_demo")
    assert made["api_key"] and made["staff_password"]


@pytest.mark.skipif(not demo.HANDBOOK.exists(), reason="there is no handbook")
def test_the_handbook_is_the_demos_knowledge(run_file: RunFile) -> None:
    with override_settings(EMBEDDING_MODEL="text-embedding-of-nobody"):
        assert result_of("ensure_demo")["tenant"] == "demo", "it starts, though nothing can be embedded"
    result_of("ensure_demo")
    with tenancy.in_tenant(selectors.tenant_by_slug("demo").ref):
        documents = apps.get_model("conversations", "Document")._default_manager
        assert documents.filter(status="ready").count() == len(list(demo.HANDBOOK.glob("*.md")))
