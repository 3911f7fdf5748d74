"""The generated pages say what the code says, whoever makes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from chatplatform.management import document
from chatplatform.settings.env import declared


def test_the_pages_are_up_to_date_whatever_the_environment() -> None:
    environment = {
        **os.environ,
        "PORT": "9999",
        "OPENAI_MODEL": "other",
        "DATABASE_URL": "postgresql://x@y/z",
    }
    command = [sys.executable, "-m", "chatplatform.management.document", "--check"]
    done = subprocess.run(
        command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_variable_is_on_the_page() -> None:
    page = document.settings_page()
    assert [name for name in declared if f"| `{name}`" not in page] == []


def test_every_command_of_ours_is_on_the_page_and_none_of_djangos() -> None:
    page = document.commands_page()
    assert "## provision_tenant\n" in page
    assert "    create_api_key [--json] [--platform] --scope S" in page
    assert "## makemigrations" not in page


def test_a_page_that_is_not_what_the_code_says_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(document, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("one\ntwo\n")
    assert not document._differs(page, "one\ntwo\n")
    assert document._differs(page, "one\nthree\n")
    assert "+three" in capsys.readouterr().err
