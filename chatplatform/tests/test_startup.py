"""A process that could not open what is stored says so when it starts, and not to the first visitor."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings

from chatplatform import health
from chatplatform.management.processes import web_command
from chatplatform.testing.live import free_port
from tenants import keyring
from tenants.models.audit import PLATFORM
from tenants.selectors import TenantState

WRONG = "that of another installation"


@pytest.mark.processes
@pytest.mark.parametrize("what", ["daphne", "uvicorn", "worker"])
def test_a_process_with_another_master_key_does_not_start(committed: None, what: str) -> None:
    keyring.current_wrapping(PLATFORM)
    web = ["-m", *web_command(what, "127.0.0.1", free_port())]
    command = ["-m", "celery", "-A", "chatplatform", "worker"] if what == "worker" else web
    environment = {**os.environ, "DATA_DIR": str(settings.DATA_DIR), "MASTER_KEY": WRONG}
    run: Any = {"env": environment, "cwd": settings.BASE_DIR, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, *command], timeout=60, check=False, **run)
    assert done.returncode == 1
    assert "Error: The master key" in done.stderr and "MASTER_OLD_KEYS" in done.stderr
    assert "Traceback" not in done.stderr and WRONG not in done.stderr


def test_nor_is_it_ready(acme: TenantState, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring.current_wrapping(PLATFORM)
    monkeypatch.setattr(health, "_current", False)
    settings.MASTER_KEY_AT, settings.MASTER_KEY = None, WRONG
    assert "master key" in health._database() and not health._current
