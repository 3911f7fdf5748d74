"""Running ops commands in tests: in this process, or as an operator does, with an exit status."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

from django.conf import settings
from django.core.management import call_command


def result_of(*arguments: str) -> dict[str, Any]:
    """The object that a command prints with --json. Raises CommandError."""
    stdout = io.StringIO()
    call_command(*arguments, "--json", stdout=stdout, stderr=io.StringIO())
    return dict(json.loads(stdout.getvalue()))


def text_of(*arguments: str) -> str:
    """What a command prints for people. Raises CommandError."""
    stdout = io.StringIO()
    call_command(*arguments, stdout=stdout, stderr=io.StringIO())
    return stdout.getvalue()


def operate(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """`manage.py …` as a process of its own, on this test run's servers."""
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
