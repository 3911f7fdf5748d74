"""Loaded by pytest before Django's settings: gives a test run a DATA_DIR of its own, never that of `make run`.

`make test` runs in two processes side by side, for most tests wait rather than work. Each has servers and data of its
own: one has all tests of the running platform, the other all the rest, both in the order of a run in one process.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

if "DATA_DIR" not in os.environ:
    os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="chatplatform-test.")
    atexit.register(shutil.rmtree, os.environ["DATA_DIR"], ignore_errors=True)
if SIDE := os.environ.get("PYTEST_XDIST_WORKER", ""):
    os.environ["DATA_DIR"] = str(Path(os.environ["DATA_DIR"]) / SIDE)
for name in ("DATABASE_URL", "DATABASE_ADMIN_URL", "REDIS_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
    os.environ.pop(name, None)
os.environ.setdefault("LOG_LEVEL", "WARNING")


@pytest.hookimpl(tryfirst=True)  # before the names of the groups are asked for
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """See above."""
    for item in items if SIDE else ():
        of_platform = not {"live", "committed"}.isdisjoint(item.fixturenames)
        item.add_marker(pytest.mark.xdist_group("platform" if of_platform else "rest"))
