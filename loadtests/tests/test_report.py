"""What the bench writes."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from loadtests import plot, report


def load(streams: int, p95: float | None, why_not: str = "") -> dict[str, Any]:
    late = {"p50": 1.0, "p95": p95}
    figures = {
        "window_late_ms": late,
        "overall_late_ms": late,
        "first_token_ms": late,
        "cpu_ms": {"web": 1.0},
    }
    faults = ["1 last events"] if why_not else []
    checks = {"client_too_late": False, "faults": faults, "together_s": 12.0, "why_not": why_not}
    return {"streams": streams, **figures, **checks}


def result(server: str, **measures: Any) -> dict[str, Any]:
    about = {"cores": 2, "memory_gb": 4, "system": "Linux", "python": "3.11", "versions": {}, "commit": "abc"}
    machine = {**about, "busy_before_percent": 0}
    return {
        "at": "2026-01-02T03:04:05",
        "server": server,
        "quick": False,
        "machine": machine,
        "measures": measures,
    }


STREAMS = {
    "held": 400,
    "of_direct": 0.98,
    "loads": [load(400, 60.0), load(600, None, "3 faulty")],
    "direct": load(400, 2.0),
}


def test_later_results_complete_earlier_ones() -> None:
    found = report.merged([result("daphne", a=1, b=1), result("uvicorn", a=3), result("daphne", b=2)])
    assert {server: one["measures"] for server, one in found.items()} == {
        "daphne": {"a": 1, "b": 2},
        "uvicorn": {"a": 3},
    }


def test_what_protection_costs_is_shown_in_percent() -> None:
    ways = {
        name: {"of_neither": 0.92, "of_neither_by_cpu": 0.97} for name in ("encryption", "switching", "both")
    }
    row = next(one for one in report.ROWS if one[0] == "protection")
    assert row[4](ways) == "8 %, by CPU 3 %"
    assert row[5](ways) == "encryption 8 %, by CPU 3 %, switching 8 %, by CPU 3 %"


def test_the_table_has_every_measure_also_those_that_are_missing() -> None:
    text = report.as_text(report.merged([result("daphne", streams=STREAMS, idle={"error": "too few files"})]))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len([row for row in rows if any(what in row for _, what, *_ in report.ROWS)]) == len(report.ROWS)
    assert "400 | 1,200" in text.replace("  ", " ").replace("  ", " ")
    assert "idle could not be measured: too few files" in text
    assert "- streams, 600 streams: 1 last events" in text


def test_the_document_keeps_what_is_around_the_table(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{report.BEGIN}\nof last week\n{report.END}\nafter\n")
    for _ in range(2):
        report.write_into(document, report.merged([result("daphne", streams=STREAMS)]))
    text = document.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    assert "last week" not in text and text.count(report.BEGIN) == text.count(report.END) == 1


def test_a_document_without_a_place_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("no markers")
    with pytest.raises(ValueError, match="no place"):
        report.write_into(document, {})
    assert document.read_text() == "no markers"


def test_the_plot_is_xml_with_a_line_for_each_server_also_with_gaps() -> None:
    turns = {"ws": {"per_second": 61.0}, "rest": {"per_second": 70.0}}
    results = report.merged(
        [result("daphne", streams=STREAMS, turns=turns), result("uvicorn", streams=STREAMS)]
    )
    root = ElementTree.fromstring(plot.svg(results))
    kinds = [element.get("class") for element in root.iter() if element.tag.endswith("polyline")]
    assert kinds == ["daphne p50", "daphne p95", "uvicorn p50", "uvicorn p95"]
    assert ElementTree.fromstring(plot.svg({})).tag.endswith("svg")
