"""Small charts as inline SVG; colours come from the page's style sheet, by class."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from rt2.evaluate.statistics import Rate

WIDTH, ROW, GAP = 720, 22, 14
LABEL_END, VALUE = 190, 60


@dataclass(frozen=True)
class Bar:
    """A rate with its label, under a group; `kind` is the style class ("model" or "reference")."""

    group: str
    label: str
    rate: Rate
    kind: str


def interval_bars(bars: Sequence[Bar], title: str) -> str:
    """Horizontal bars of rates on a 0..100 % axis, each with its 95 % interval as a whisker.

    Bars of one group stand together, the group's name beside the first.
    """
    groups = list(dict.fromkeys(bar.group for bar in bars))
    height = ROW * len(bars) + GAP * (len(groups) - 1) + 24
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-label="{escape(title)}">'
    ]
    for tick in (0, 25, 50, 75, 100):
        at = _x(tick / 100)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="0" y2="{height - 20}"/>')
        parts.append(f'<text class="tick" x="{at}" y="{height - 4}">{tick} %</text>')
    y = ROW / 2
    for group in groups:
        parts.append(f'<text class="group" x="0" y="{y + 4}">{escape(group)}</text>')
        for bar in bars:
            if bar.group == group:
                parts.append(_bar(bar, y))
                y += ROW
        y += GAP
    return "".join(parts) + "</svg>"


def _x(share: float) -> float:
    """Where a share of 0..1 lies on the axis."""
    return LABEL_END + share * (WIDTH - VALUE - LABEL_END)


def _bar(bar: Bar, y: float) -> str:
    low, high = bar.rate.interval
    thick = 12 if bar.kind == "model" else 6
    name = f"{bar.group}, {bar.label}: {bar.rate}"
    return (
        f'<g class="{escape(bar.kind)}"><title>{escape(name)}</title>'
        f'<text class="label" x="{LABEL_END - 12}" y="{y + 4}">{escape(bar.label)}</text>'
        f'<rect class="bar" x="{_x(0)}" y="{y - thick / 2}" rx="2" height="{thick}"'
        f' width="{max(_x(bar.rate.value) - _x(0), 1.5):.1f}"/>'
        f'<path class="whisker" d="M{_x(low):.1f} {y}H{_x(high):.1f}'
        f'M{_x(low):.1f} {y - 4}v8M{_x(high):.1f} {y - 4}v8"/>'
        f'<text class="value" x="{WIDTH}" y="{y + 4}">{100 * bar.rate.value:.1f} %</text></g>'
    )


def curve(steps: Sequence[float], values: Sequence[float], title: str) -> str:
    """A line chart of `values` over training `steps`, with the range and the last value written.

    Values that are not finite break the line. Raises ValueError when none is finite.
    """
    points = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(v)]
    if not points:
        raise ValueError(f"curve {title!r} has no finite value")
    width, height, top, bottom = 340, 170, 30, 22
    first, last = min(s for s, _ in points), max(s for s, _ in points)
    low, high = min(v for _, v in points), max(v for _, v in points)

    def place(step: float, value: float) -> str:
        x = 4 + (width - 8) * (step - first) / ((last - first) or 1)
        y = top + (height - top - bottom) * (1 - (value - low) / ((high - low) or 1))
        return f"{x:.1f} {y:.1f}"

    path, pen = "", "M"
    for step, value in zip(steps, values, strict=True):
        if math.isfinite(value):
            path, pen = path + pen + place(step, value), "L"
        else:
            pen = "M"
    return (
        f'<svg class="curve" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{escape(title)}">'
        f'<text class="name" x="4" y="14">{escape(title)}</text>'
        f'<text class="last" x="{width - 4}" y="14">{points[-1][1]:.4g}</text>'
        f'<path class="frame" d="M4 {height - bottom}H{width - 4}"/>'
        f'<path class="line" d="{path}"/>'
        f'<text class="range" x="4" y="{height - 6}">step {first:g}</text>'
        f'<text class="range end" x="{width - 4}" y="{height - 6}">step {last:g}</text>'
        f'<text class="range" x="{width / 2}" y="{height - 6}" text-anchor="middle">'
        f"{low:.3g} to {high:.3g}</text></svg>"
    )


def histograms(
    edges: Sequence[float], series: Sequence[tuple[str, Sequence[int]]], title: str
) -> str:
    """Counts of several series over the same cells, the first filled, the others as lines.

    edges: the bounds of the cells, one more than counts. series: (style class, counts) each.
    """
    width, height, top, bottom = 340, 170, 30, 22
    most = max(max(counts) for _, counts in series) or 1
    cell = (width - 8) / (len(edges) - 1)

    def outline(counts: Sequence[int]) -> str:
        path = f"M4 {height - bottom}"
        for i, count in enumerate(counts):
            y = top + (height - top - bottom) * (1 - count / most)
            path += f"L{4 + i * cell:.1f} {y:.1f}L{4 + (i + 1) * cell:.1f} {y:.1f}"
        return f"{path}L{width - 4} {height - bottom}"

    paths = "".join(f'<path class="{escape(c)}" d="{outline(n)}"/>' for c, n in series)
    return (
        f'<svg class="curve histogram" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{escape(title)}">'
        f'<text class="name" x="4" y="14">{escape(title)}</text>'
        f'<path class="frame" d="M4 {height - bottom}H{width - 4}"/>{paths}'
        f'<text class="range" x="4" y="{height - 6}">{edges[0]:.3g}</text>'
        f'<text class="range end" x="{width - 4}" y="{height - 6}">{edges[-1]:.3g}</text></svg>'
    )
