"""A plan as one page with charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rt2.page import html
from rt2.page.html import Figure
from rt2.plan import lines
from rt2.plan.lines import KINDS, verdict

WIDTH, LABEL, HEIGHT = 720, 130, 26
STYLE = """
.bar { fill: var(--model); } .bar.k1 { fill: #8a63d2; } .bar.k2 { fill: #1f9e89; }
.bar.k3 { fill: #d9822b; } .bar.k4 { fill: #9aa5b1; }
.limit { stroke: var(--bad); stroke-width: 2; stroke-dasharray: 4 3; }
svg .value { fill: var(--soft); }
"""


def page(plan: Mapping[str, Any]) -> str:
    """The whole page."""
    head = (
        f"<header><h1>{escape(plan['variant'])} on {escape(plan['topology'])}</h1>"
        f"<p>{escape(verdict(plan))}</p></header>"
    )
    return html.document(
        f"Plan: {plan['variant']} on {plan['topology']}",
        [
            head,
            html.cards(_cards(plan)),
            _memory(plan),
            *_time(plan),
            *_programs(plan),
            _end(plan),
        ],
        STYLE,
    )


def _cards(plan: Mapping[str, Any]) -> list[str]:
    mesh = " x ".join(f"{axis} {size}" for axis, size in plan["mesh"].items())
    return [
        html.count_card("Million parameters", plan["parameters"] // 10**6, plan["sharding"]),
        html.count_card("Chips", plan["chips"], mesh),
        html.count_card("Rows of a batch", plan["batch_size"], f"remat {plan['remat']}"),
    ]


def _memory(plan: Mapping[str, Any]) -> str:
    held = [(kind, plan["bytes"][kind] or 0) for kind in KINDS]
    bars = bar_chart(
        [(kind, size / 2**30, f"{size / 2**30:.2f} GiB") for kind, size in held],
        "Memory of a chip by kind",
    )
    total = stacked_chart(
        [size / 2**30 for _, size in held], plan["usable_bytes"] / 2**30, "All against the limit"
    )
    lead = "What the fullest chip keeps; temporaries are activations and what a step drops again."
    return html.section("Memory", lead, html.panel(total, bars))


def _time(plan: Mapping[str, Any]) -> list[str]:
    if "action" in plan:
        return [_action(plan["action"])]
    if "roofline" not in plan:
        return []
    line = plan["roofline"]
    names = ("compute", "memory", "communication", "estimate")
    chart = bar_chart(
        [(name, line[name], f"{line[name]:.3f} s") for name in names], "Seconds of a step"
    )
    lead = (
        f"No step is faster than {line['seconds']:.2f} s ({line['bound']}); the estimate is a "
        f"model FLOPs utilization of {line['model_flops_utilization']:.0%}. Not measured."
    )
    return [html.section("Time", lead, html.panel(chart))]


def _action(line: Mapping[str, float]) -> str:
    names = ("compute", "weights", "memory", "communication", "latency", "least", "most")
    bars = [(name, line[name], f"{1e3 * line[name]:.1f} ms") for name in names]
    lead = f"{lines.action(line)[-1].capitalize()}. Not measured."
    return html.section("Time", lead, html.panel(bar_chart(bars, "Time of an action")))


def _programs(plan: Mapping[str, Any]) -> list[str]:
    compiled = {k: row for k, row in plan["programs"].items() if "overflow" not in row}
    if not compiled:
        return []
    rows = [
        [
            name,
            Figure(f"{row['needed_bytes'] / 2**30:.2f} GiB"),
            Figure(f"{row['flops'] / 1e15:.3f} PFLOP"),
            Figure(f"{row['received_bytes'] / 1e9:.1f} GB"),
            Figure(f"{row['seconds']:.0f} s", f"{row['cpu_seconds']:.0f} s of CPU"),
            Figure(f"{row['rss_bytes'] / 2**30:.1f} GiB"),
        ]
        for name, row in compiled.items()
    ]
    head = ("program", "memory of a chip", "all chips", "a chip receives", "compiled in", "host")
    found = [
        [name, one["kind"], one["axes"], one["runs"], _gigabytes(one["received_bytes"])]
        for name, row in compiled.items()
        for one in row["collectives"]
    ]
    sections = [html.section("Programs", "Each compiled ahead of time.", html.table(head, rows))]
    if found:
        columns = ("program", "collective", "mesh axes", "runs", "a chip receives")
        lead = "From the compiled text, loops counted."
        sections.append(html.section("Collectives", lead, html.table(columns, found)))
    return sections


def _gigabytes(count: int) -> Figure:
    return Figure(f"{count / 1e9:.3f} GB")


def _end(plan: Mapping[str, Any]) -> str:
    lead = "The figures that these times rest on."
    return html.section("Assumptions", lead, html.panel(html.definitions(plan["assumptions"])))


def bar_chart(bars: Sequence[tuple[str, float, str]], title: str) -> str:
    """Horizontal bars of (label, value, text), longest to the right edge."""
    longest = max((value for _, value, _ in bars), default=0) or 1
    parts = []
    for i, (label, value, text) in enumerate(bars):
        y, width = 24 + i * HEIGHT, (WIDTH - LABEL - 120) * value / longest
        parts.append(
            f'<text x="0" y="{y + 15}">{escape(label)}</text>'
            f'<rect class="bar k{i % 5}" x="{LABEL}" y="{y}" width="{max(width, 1):.1f}"'
            f' height="18" rx="3"/>'
            f'<text class="value" x="{LABEL + width + 8:.1f}" y="{y + 14}">{escape(text)}</text>'
        )
    return _svg(title, 30 + HEIGHT * len(bars), parts)


def stacked_chart(values: Sequence[float], limit: float, title: str) -> str:
    """One bar of all values end to end, in GiB, and a mark where the limit is."""
    scale = WIDTH / (1.05 * max(sum(values), limit))
    parts, x = [], 0.0
    for i, value in enumerate(values):
        parts.append(
            f'<rect class="bar k{i}" x="{x:.1f}" y="26" width="{value * scale:.1f}" height="24"/>'
        )
        x += value * scale
    at = limit * scale
    parts.append(
        f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="20" y2="58"/>'
        f'<text class="value" x="{at - 6:.1f}" y="72" text-anchor="end">'
        f"{sum(values):.1f} of {limit:.1f} GiB usable</text>"
    )
    return _svg(title, 84, parts)


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f'<text class="value" x="0" y="14">{escape(title)}</text>{"".join(parts)}</svg>'
    )
