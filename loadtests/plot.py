"""The results as a picture: an SVG of two panels, which follows the reader's choice of light or dark.

Drawn by hand: two axes, a few lines and bars do not need a library with its dependencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from loadtests.figures import LATE_MS
from loadtests.report import Results, number

WIDTH, HEIGHT, TOP, BOTTOM = 860, 330, 46, 280
LEFT, MIDDLE = (60, 470), (560, 840)  # x from and to of the two panels
HIGHEST = 400.0  # ms at the top of the left panel; what is worse is drawn there
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #444 } .head { font-weight: 600; font-size: 13px; fill: #222 }
.grid { stroke: #ddd } .limit { stroke: #c33; stroke-dasharray: 5 4 } .limit-text { fill: #c33 }
polyline { fill: none; stroke-width: 2 } .p50 { stroke-dasharray: 2 4 }
.daphne { stroke: #2166c0; fill: #2166c0 } .uvicorn { stroke: #c26a00; fill: #c26a00 }
rect, circle { stroke: none } polyline.daphne, polyline.uvicorn { fill: none }
@media (prefers-color-scheme: dark) {
  text { fill: #bbb } .head { fill: #eee } .grid { stroke: #444 } .limit { stroke: #f77 } .limit-text { fill: #f77 }
  .daphne { stroke: #6aa9f7; fill: #6aa9f7 } .uvicorn { stroke: #f0a850; fill: #f0a850 }
}
"""


def svg(results: Results) -> str:
    """Added delay per token over the number of streams; and complete turns a second."""
    parts = [*_delays(results), *_turns(results)]
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    title = "<title>Added delay per token over live streams, and complete turns a second</title>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{title}<style>{STYLE}</style>\n'
        + "\n".join([*parts, "</svg>\n"])
    )


def _delays(results: Results) -> list[str]:
    found = {
        server: r["measures"]["streams"]
        for server, r in results.items()
        if "loads" in r["measures"].get("streams", {})
    }
    most = max((load["streams"] for m in found.values() for load in m["loads"]), default=100)
    parts = [_text(LEFT[0], 22, "Added delay per token, ms, over live streams", "head")]
    for ms in (0, 100, 200, 300, 400):
        kind = "limit" if ms == LATE_MS else "grid"
        parts += [
            _line(LEFT, _y(ms), kind),
            _text(LEFT[0] - 8, _y(ms) + 4, f"{ms}{'+' if ms == HIGHEST else ''}", anchor="end"),
        ]
    parts += [
        _text(
            LEFT[0] + share * (LEFT[1] - LEFT[0]) / 4, BOTTOM + 20, f"{most * share // 4:,}", anchor="middle"
        )
        for share in range(5)
    ]
    for server, measure in found.items():
        for name in ("p50", "p95"):
            best: dict[int, float] = {}
            for load in measure["loads"]:
                delay = load["window_late_ms"][name]
                best[load["streams"]] = min(
                    delay if delay is not None else HIGHEST, best.get(load["streams"], HIGHEST)
                )
            points = [
                (LEFT[0] + count / most * (LEFT[1] - LEFT[0]), _y(delay))
                for count, delay in sorted(best.items())
            ]
            parts += _curve(points, f"{server} {name}", f"{server} {name}")
    return parts


def _curve(points: Sequence[tuple[float, float]], kind: str, label: str) -> list[str]:
    if not points:
        return []
    line = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
    dots = [f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" class="{kind}"/>' for x, y in points]
    x, y = points[-1]
    return [f'<polyline points="{line}" class="{kind}"/>', *dots, _text(x + 6, y + 4, label)]


def _turns(results: Results) -> list[str]:
    parts = [_text(MIDDLE[0], 22, "Complete turns a second", "head")]
    bars: list[tuple[str, str, float]] = []
    for server, result in results.items():
        measure: dict[str, Any] = result["measures"].get("turns", {})
        bars += [
            (server, f"{server}, {way}", measure[way]["per_second"])
            for way in ("ws", "rest")
            if way in measure
        ]
    most = max((value for _, _, value in bars), default=1.0) * 1.25
    for number_of, (kind, label, value) in enumerate(bars):
        y, width = TOP + 6 + number_of * 46, value / most * (MIDDLE[1] - MIDDLE[0])
        parts += [
            _text(MIDDLE[0], y + 8, label),
            f'<rect x="{MIDDLE[0]}" y="{y + 13}" width="{width:.0f}" height="14" class="{kind}"/>',
        ]
        parts.append(_text(MIDDLE[0] + width + 6, y + 25, number(value)))
    return parts


def _y(ms: float) -> float:
    return BOTTOM - min(ms, HIGHEST) / HIGHEST * (BOTTOM - TOP)


def _line(panel: tuple[int, int], y: float, kind: str) -> str:
    return f'<line x1="{panel[0]}" x2="{panel[1]}" y1="{y:.0f}" y2="{y:.0f}" class="{kind}"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
