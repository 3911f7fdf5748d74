"""The results as text: the table of what to reach, and what stands behind it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench:begin (written by `make bench ARGS=--write-docs`) -->", "<!-- bench:end -->"
BUSY = 10  # percent of the CPU in use before a run from which on its figures are no more than preliminary
Results = dict[str, dict[str, Any]]  # a result for each server
Figures = Mapping[str, Any]
PARTS = ("web", "worker", "beat", "valkey", "postgres", "litellm", "simulator", "client")
# Measure, at least, aim for, the measured figure, and beside what.
ROWS: tuple[tuple[str, str, str, str, Callable[[Any], str], Callable[[Any], str]], ...] = (
    (
        "streams",
        "live streams, p95 of the added delay per token under 100 ms",
        "400",
        "1,200",
        lambda m: f"{m['held']:,}",
        lambda m: f"tokens/s {number(m['of_direct'], 2)} of the simulator's",
    ),
    (
        "first_token",
        "added time to the first token at 100 streams, p50 / p95, ms",
        "40 / 80",
        "15 / 30",
        lambda m: f"{number(m['added_ms']['p50'])} / {number(m['added_ms']['p95'])}",
        lambda m: " / ".join(number(m["direct"]["first_token_ms"][p]) for p in ("p50", "p95")) + " straight",
    ),
    (
        "turns",
        "complete turns a second, 50 tokens",
        "60",
        "167",
        lambda m: f"{number(m['ws']['per_second'])} (REST {number(m['rest']['per_second'])})",
        lambda m: f"{number(m['ws']['of_direct'], 2)} of {number(m['direct']['per_second'])} straight",
    ),
    (
        "admission",
        "admission at 50 turns a second (limits, hold, accept), p95, ms",
        "5",
        "5",
        lambda m: f"within {number(m['p95_ms'], 1)}",
        lambda m: f"p50 within {number(m['p50_ms'], 1)}{_unchecked(m)}",
    ),
    (
        "memory",
        "memory per live stream, all processes, kB",
        "150",
        "60",
        lambda m: number(m["each_kb"]),
        lambda m: f"at {m['streams']} streams",
    ),
    (
        "requests",
        "requests a second without streaming, 32 clients, over LiteLLM's",
        "2 ×",
        "4 ×",
        lambda m: f"{number(m['of_litellm'], 1)} ×" if "litellm" in m else "not compared",
        lambda m: _beside(m),
    ),
    (
        "protection",
        "what encryption and changing of roles cost, of turns a second",
        "10 %",
        "5 %",
        lambda m: f"{_cost(m['both']['of_neither'])}, by CPU {_cost(m['both']['of_neither_by_cpu'])}",
        lambda m: ", ".join(
            f"{name} {_cost(m[name]['of_neither'])}, by CPU {_cost(m[name]['of_neither_by_cpu'])}"
            for name in ("encryption", "switching")
        ),
    ),
    (
        "idle",
        "idle sockets held by one process",
        "2,000",
        "10,000",
        lambda m: f"{m['held']:,}",
        lambda m: (
            f"{number(m['steps'][-1]['each_kb'].get('web'))} kB of the web process each" if m["steps"] else ""
        ),
    ),
)


def merged(results: Iterable[dict[str, Any]]) -> Results:
    """By server; a later measure of the same takes the place of an earlier one."""
    found: Results = {}
    for result in results:
        earlier = found.get(result["server"], {"measures": {}, "quick": False})
        both = {"measures": {**earlier["measures"], **result["measures"]}}
        found[result["server"]] = {**result, **both, "quick": result["quick"] or earlier["quick"]}
    return found


def as_text(results: Results) -> str:
    """Everything, in Markdown that reads well as it is."""
    parts = [*(_about(result) for result in results.values()), "", _targets(results)]
    for server, result in results.items():
        measures = {name: m for name, m in result["measures"].items() if "error" not in m}
        for name, show in DETAILS.items():
            if name in measures:
                parts += ["", f"**{DETAIL_TITLES[name]}, {server}**", "", show(measures[name])]
        failed = {name: m["error"] for name, m in result["measures"].items() if "error" in m}
        parts += [f"\n{name} could not be measured: {error}" for name, error in failed.items()]
        if faults := list(_faults(measures)):
            parts += ["", "Faulty:", *(f"- {fault}" for fault in faults)]
    return "\n".join(parts)


def _unchecked(admission: Figures) -> str:
    """Calls that nobody checked make a good figure, and must be told."""
    count = admission.get("unchecked", 0)
    return f", {number(count)} passed unchecked" if count else ""


def write_into(document: Path, results: Results) -> None:
    """Between the two markers. Raises ValueError where there are none."""
    text = document.read_text()
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{document} has no place for the table: {BEGIN} … {END}")
    document.write_text(f"{head}{BEGIN}\n\n{as_text(results)}\n\n{END}{tail}")


def _about(result: Figures) -> str:
    machine, server = result["machine"], result["server"]
    loop = (
        f" (its own loop: {number(machine['python_loop_ms'], 2)} ms)" if "python_loop_ms" in machine else ""
    )
    words = [
        f"{server} {machine['versions'].get(server, '')}, Python {machine['python']}{loop}",
        f"{machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}",
        f"commit {machine['commit']}",
        f"{result['at'][:16].replace('T', ' ')} UTC",
    ]
    if machine["busy_before_percent"] >= BUSY:
        words.append(f"**preliminary: {machine['busy_before_percent']:.0f} % of the CPU was in use before**")
    if result["quick"]:
        words.append("the small form, at least in part")
    return "; ".join(words) + ".  "


def _targets(results: Results) -> str:
    heads = ["measure", "at least", "aim for"]
    for server in results:
        heads += [server.title() if server == "daphne" else server, "beside"]
    rows = []
    for name, what, least, aim, value, beside in ROWS:
        row = [what, least, aim]
        for result in results.values():
            measure = result["measures"].get(name)
            known = measure is not None and "error" not in measure
            row += [value(measure), beside(measure)] if known else ["", ""]
        rows.append(row)
    return table(heads, rows)


def _beside(measure: Figures) -> str:
    ways = {"rest": "platform", "litellm": "LiteLLM", "direct": "simulator"}
    shown = (
        f"{name} {number(measure[way]['per_second'])}/s p50 {number(measure[way]['took_ms']['p50'])} ms"
        for way, name in ways.items()
        if way in measure
    )
    return ", ".join(shown)


def _cost(ratio: float) -> str:
    return f"{number(100 * (1 - ratio))} %"


def _streams(measure: Figures) -> str:
    heads = "streams|all live|late p50|late p95|p95 of all|first p95|CPU web|worker|valkey|postgres"
    heads += "|simulator|client|holds"
    rows = []
    for load in [*measure["loads"], measure["direct"]]:
        direct = load is measure["direct"]
        late, cpu = load["window_late_ms"], load["cpu_ms"]
        verdict = "" if direct else load["why_not"] or "yes"
        rows.append(
            [
                f"{load['streams']}{' direct' if direct else ''}",
                f"{load['together_s']:.0f} s",
                *(
                    f"{number(value)} ms"
                    for value in (late["p50"], late["p95"], load["overall_late_ms"]["p95"])
                ),
                f"{number(load['first_token_ms']['p95'])} ms",
                *(number(cpu.get(part), 1) for part in PARTS if part not in ("beat", "litellm")),
                verdict + (" (clients late)" if load["client_too_late"] else ""),
            ]
        )
    return table(heads.split("|"), rows)


def _closed_loops(measure: Figures) -> str:
    loads = {way: load for way, load in measure.items() if isinstance(load, dict)}
    parts = [part for part in PARTS if any(part in load["cpu_ms_each"] for load in loads.values())]
    heads = ["load", "clients", "a second", "p50", "p95", "failed", *(f"CPU {part}" for part in parts)]
    rows = [
        [
            way,
            str(load["clients"]),
            number(load["per_second"]),
            f"{number(load['took_ms']['p50'])} ms",
            f"{number(load['took_ms']['p95'])} ms",
            str(load["failed"]),
            *(number(load["cpu_ms_each"].get(part), 1) for part in parts),
        ]
        for way, load in loads.items()
    ]
    return table(heads, rows)


def _memory(measure: Figures) -> str:
    names = list(measure["live_kb"])
    heads = ["kB", *names, "together"]
    shown = {
        "without streams": measure["idle_kb"],
        f"{measure['streams']} live": measure["live_kb"],
        "afterwards": measure["afterwards_kb"],
        "each stream": measure["each_kb_by_part"],
    }
    rows = [
        [
            what,
            *(number(kb.get(name, 0), int(what == "each stream")) for name in names),
            number(sum(kb.values())),
        ]
        for what, kb in shown.items()
    ]
    return table(heads, rows)


def _idle(measure: Figures) -> str:
    heads = [
        "sockets",
        "opened in",
        "still open",
        "pings each",
        "answered",
        "first token p95",
        "web kB each",
        "all kB each",
    ]
    heads += ["CPU web", "CPU all"]
    rows = [
        [
            f"{step['sockets']:,}",
            f"{step['opening_s']:.0f} s",
            f"{step['alive']:,}",
            number(step["pings_each"]),
            f"{step['answered']} of {step['asked']}",
            f"{number(step['first_token_ms']['p95'])} ms",
            number(step["each_kb"].get("web"), 1),
            number(sum(step["each_kb"].values()), 1),
            f"{number(step['cpu_percent'].get('web'))} %",
            f"{number(sum(step['cpu_percent'].values()))} %",
        ]
        for step in measure["steps"]
    ]
    return table(heads, rows) + (f"\n\n{measure['note']}" if measure.get("note") else "")


def _profile(measure: Figures) -> str:
    """By the innermost of our functions, all that it calls in libraries included."""
    if "parts" not in measure:
        return str(measure["note"])
    found = [f"At {measure['streams']} streams."]
    for part, profile in measure["parts"].items():
        rows = [[f"`{name}`", f"{100 * share:.0f} %"] for name, share in profile["own"]]
        heads = [f"{part}, {number(measure['cpu_ms'].get(part))} ms for 1,000 tokens", "share"]
        found.append(table(heads, rows))
    return "\n\n".join(found)


DETAILS: dict[str, Callable[[Any], str]] = {
    "streams": _streams,
    "turns": _closed_loops,
    "requests": _closed_loops,
    "protection": _closed_loops,
    "memory": _memory,
    "idle": _idle,
    "profile": _profile,
}
DETAIL_TITLES = {
    "streams": "Live streams (CPU in ms for 1,000 tokens)",
    "turns": "Complete turns (CPU in ms for each)",
    "requests": "Requests without streaming (CPU in ms for each)",
    "protection": "Turns with encryption, with changing of roles, with both (CPU in ms for each)",
    "memory": "Memory",
    "idle": "Idle sockets",
    "profile": "Where the time goes",
}


def _faults(measures: Figures) -> Iterable[str]:
    """Every kind of fault that was seen, and where."""
    for name, measure in measures.items():
        for load in _loads(measure):
            label = f"{name}, {load['streams']} streams" if "streams" in load else name
            yield from (f"{label}: {fault}" for fault in load["faults"])
    for way in ("ws", "rest"):
        load = measures.get("turns", {}).get(way)
        if load and load["settled"] < load["done"]:
            yield f"turns, {way}: {load['done']} answered, but {load['settled']} in PostgreSQL"


def _loads(value: Any) -> Iterable[Figures]:
    if isinstance(value, dict):
        if value.get("faults"):
            yield value
        for inner in value.values():
            yield from _loads(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _loads(inner)


def number(value: float | None, places: int = 0) -> str:
    """A dash for nothing."""
    return "–" if value is None or math.isnan(value) else f"{value:,.{places}f}"


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table that is readable as it is: the first column left, the others right."""
    cells = [heads, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]

    def line(row: list[str]) -> str:
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "| " + " | ".join([row[0].ljust(widths[0]), *rest]) + " |"

    rule = "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|"
    return "\n".join([line(heads), re.sub("-:", "--", rule, count=1), *map(line, rows)])
