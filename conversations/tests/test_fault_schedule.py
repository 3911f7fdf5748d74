"""The fault suite in short: one seed of it. `make test-faults` plays longer schedules of other seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatplatform.testing.faults.report import report
from chatplatform.testing.faults.run import run
from chatplatform.testing.faults.schedule import draw

pytestmark = [pytest.mark.slow, pytest.mark.processes, pytest.mark.timeout(120)]

SEED, SECONDS = 39, 9.0


def test_nothing_is_lost_doubled_or_left_while_things_die(tmp_path: Path) -> None:
    result = run(draw(SEED, SECONDS), tmp_path)
    assert not result.wrong, report(result)
    assert len(result.evidence.stored) >= 8  # clients did chat meanwhile
