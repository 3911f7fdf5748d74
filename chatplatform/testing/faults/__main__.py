"""`python -m chatplatform.testing.faults [--seed N | --seeds N]`: exit status 1 if anything was wrong."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

import django

SECONDS = 25.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Real processes, a seeded schedule of faults, and the proof."
    )
    parser.add_argument("--seed", type=int, help="repeat this seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many new seeds to run (%(default)s)")
    parser.add_argument(
        "--first", type=int, help="the first of them, the others follow it (default: at random)"
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long faults happen (%(default)s)")
    parser.add_argument("--verbose", action="store_true", help="show the diary of a run that went well, too")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatplatform.settings")
    django.setup()
    # The simulator's callers get killed: that is as meant.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stage is struck
    if options.seed is not None:
        seeds = [options.seed]
    else:
        first = SystemRandom().randrange(10**6) if options.first is None else options.first
        seeds = list(range(first, first + options.seeds))
    failed = [seed for seed in seeds if not _play(seed, options.seconds, verbose=options.verbose)]
    if failed:
        _say(f"\n{len(failed)} of {len(seeds)} seeds failed: {', '.join(map(str, failed))}")
    return 1 if failed else 0


def _play(seed: int, seconds: float, *, verbose: bool) -> bool:
    from chatplatform.testing.faults.report import report
    from chatplatform.testing.faults.run import run
    from chatplatform.testing.faults.schedule import draw

    data_dir = Path(tempfile.mkdtemp(prefix=f"chatplatform-faults-{seed}."))
    try:
        result = run(draw(seed, seconds), data_dir)
        _say(result.line)
        if result.wrong or verbose:
            kept = Path(tempfile.gettempdir()) / f"chatplatform-faults-{seed}.log"
            shutil.copy(data_dir / "live.log", kept)
            _say(report(result, kept))
        return not result.wrong
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
