"""`make bench`: how fast the platform is, beside the bare provider simulator. See docs/performance.md.

PostgreSQL, Valkey, web server, worker, beat, simulator and clients are processes of their own, with data of their own.
A figure never fails the run; replies that were lost, doubled or changed are counted and listed.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtests import machine, plot, report
from loadtests.measures import MEASURES, QUICK, Plan, say, warm_up
from loadtests.stand import ROOT, Stand, standing

RESULTS = ROOT / "bench-results"
DOCUMENT, PICTURE = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.svg"


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    if options.server == "both":
        _both(options)
        return
    results = report.merged([json.loads(file.read_text()) for file in options.again or [_measured(options)]])
    if not options.again or not (options.plot or options.write_docs):
        print(report.as_text(results))
    if options.plot:
        options.plot.write_text(plot.svg(results))
    if options.write_docs:
        PICTURE.write_text(plot.svg(results))
        report.write_into(DOCUMENT, results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("--only", help=f"some of {','.join(MEASURES)}, with commas")
    parser.add_argument("--quick", action="store_true", help="a small form of each, in about two minutes")
    parser.add_argument(
        "--server", default="daphne", choices=["daphne", "uvicorn", "both"], help="(%(default)s)"
    )
    parser.add_argument("--streams", help="numbers of live streams to try, with commas")
    parser.add_argument("--sockets", help="numbers of idle sockets to try, with commas")
    parser.add_argument("--litellm", default="", metavar="PROGRAM", help="the LiteLLM proxy to compare with")
    parser.add_argument("--py-spy", default="", metavar="PROGRAM", help="py-spy, for the profile")
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="a setting of the platform"
    )
    parser.add_argument(
        "--again", nargs="+", type=Path, metavar="JSON", help="earlier results, instead of measuring"
    )
    parser.add_argument("--plot", type=Path, metavar="SVG", help="draw them")
    parser.add_argument(
        "--write-docs", action="store_true", help="put table and plot into docs/performance.*"
    )
    options = parser.parse_args()
    options.only = options.only.split(",") if options.only else list(MEASURES)
    if not options.py_spy:
        options.only = [name for name in options.only if name != "profile"]
    if unknown := set(options.only) - set(MEASURES):
        parser.error(f"--only knows {', '.join(MEASURES)}, not {', '.join(sorted(unknown))}")
    options.env = dict(pair.split("=", 1) for pair in options.env)
    return options


def _both(options: argparse.Namespace) -> None:
    """One server after the other, each in a process of its own; then both together."""
    files: list[str] = []
    words = [word for word in sys.argv[1:] if word != "--write-docs"]
    for server in ("daphne", "uvicorn"):
        before = set(RESULTS.glob("*.json"))
        _bench(*words, "--server", server)
        files += [str(file) for file in sorted(set(RESULTS.glob("*.json")) - before)]
    shown = ["--write-docs"] if options.write_docs else []
    shown += ["--plot", str(options.plot)] if options.plot else []
    _bench("--again", *files, *shown)


def _bench(*words: str) -> None:
    process = subprocess.Popen([sys.executable, "-m", "loadtests.bench", *words], cwd=ROOT)
    try:
        if status := process.wait():
            sys.exit(status)
    finally:
        if process.poll() is None:
            process.terminate()  # it stops what it has started; killed it could not
            process.wait()


def _measured(options: argparse.Namespace) -> Path:
    """Measure, and keep the results; the file."""
    at, began = datetime.now(UTC), time.monotonic()
    result: dict[str, Any] = {
        "at": at.isoformat(timespec="seconds"),
        "server": options.server,
        "quick": options.quick,
    }
    result |= {"machine": machine.facts(ROOT), "measures": {}}
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{at:%Y%m%dT%H%M%SZ}-{options.server}.json"
    # Beside the project, not in /tmp: that may be memory, where durability costs nothing.
    with tempfile.TemporaryDirectory(prefix=".data-bench.", dir=ROOT) as data_dir:
        Path(data_dir).chmod(0o755)
        with standing(options.server, Path(data_dir), options.env) as stand:
            result |= {"environment": dict(stand.environment), "durability": stand.durability()}
            _measure_all(stand, options, result, file)
    result["seconds"] = round(time.monotonic() - began, 1)
    file.write_text(json.dumps(result, indent=1))
    say(f"{result['seconds']:.0f} s; kept as {file.relative_to(ROOT)}")
    return file


def _measure_all(stand: Stand, options: argparse.Namespace, result: dict[str, Any], file: Path) -> None:
    plan = _plan(options)
    warm_up(stand, plan)
    for name in (name for name in MEASURES if name in options.only):
        say(f"{name} ({stand.server})")
        began = time.monotonic()
        try:
            result["measures"][name] = MEASURES[name](stand, plan)
        except Exception as error:  # the others are worth having all the same
            say(f"  {type(error).__name__}: {error}")
            result["measures"][name] = {"error": f"{type(error).__name__}: {error}"[:500]}
        say(f"  took {time.monotonic() - began:.0f} s")
        file.write_text(json.dumps(result, indent=1))


def _plan(options: argparse.Namespace) -> Plan:
    plan = replace(QUICK if options.quick else Plan(), litellm=options.litellm, py_spy=options.py_spy)
    if options.streams:
        plan = replace(plan, steps=_numbers(options.streams))
    return replace(plan, sockets=_numbers(options.sockets)) if options.sockets else plan


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(number) for number in text.split(",")))


if __name__ == "__main__":
    main()
