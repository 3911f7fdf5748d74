"""Many at once, from several processes whose clocks do not agree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatplatform.ratelimit import Limiter
from chatplatform.ratelimit.limiter import ADMIT
from chatplatform.ratelimit.tests.caller import LEVELS, TOKENS
from chatplatform.ratelimit.tests.clock import CLOCKED, Clock

ROOT = Path(__file__).resolve().parents[3]
SKEWS = (0.0, 3600.0, -3600.0, 86_400.0, -0.5)
EACH = 100


@pytest.mark.parametrize("script", ["", "clocked"])
def test_60_of_500_pass(valkey: Any, valkey_url: str, script: str) -> None:
    """With `clocked`, all 500 have the same time stamp."""
    Clock(valkey)
    program = [sys.executable, "-m", "chatplatform.ratelimit.tests.caller", valkey_url, str(EACH)]
    callers = [
        subprocess.Popen([*program, str(skew), *filter(None, [script])], stdout=subprocess.PIPE, cwd=ROOT)
        for skew in SKEWS
    ]
    while int(valkey.get("ready") or 0) < len(SKEWS):
        assert all(caller.poll() is None for caller in callers)
    valkey.set("go", 1)
    passed = [int(caller.communicate(timeout=60)[0]) for caller in callers]
    assert sum(passed) == 60
    standings = Limiter(valkey, admit=CLOCKED if script else ADMIT).look(LEVELS).standings
    assert [one.limit - one.remaining for one in standings] == [60, 60, 60 * TOKENS, 60]
