"""Histograms as inline SVG; colours come from the page's style sheet, by class."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

WIDTH, HEIGHT, TOP, BOTTOM, EDGE = 270, 140, 40, 20, 20  # about the pixels of a panel

FEW = 40  # bars that are drawn wider, so that they can be seen at all


class Slot(NamedTuple):
    """What a histogram of a dimension shows; see `histogram.bin_counts` for `bins`."""

    name: str
    unit: str
    low: float
    high: float
    q01: float
    q99: float
    bins: dict[str, Any]


def slot_histogram(slot: Slot) -> str:
    """How often each bin is used: the bounds at the ends, q01 to q99 shaded, the rest outside.

    Heights are square roots of the counts, so that a spike does not hide the rest.
    """
    counts, total = slot.bins["counts"], _total(slot.bins)
    used, outside = sum(map(bool, counts)), slot.bins["below"] + slot.bins["above"]
    top = math.sqrt(max(*counts, slot.bins["below"], slot.bins["above"], 1))
    left, right = (_place(slot, quantile) for quantile in (slot.q01, slot.q99))
    said = f"{used} of {len(counts)} bins, {outside / total:.1%} outside"
    parts = [
        _open(f"{slot.name}: {said}"),
        f'<text class="name" x="0" y="13">{escape(slot.name)}</text>',
        f'<text class="unit" x="{WIDTH}" y="13">{escape(slot.unit)}</text>',
        f'<text class="said" x="0" y="30">{said}</text>',
        f'<rect class="band" x="{left:.1f}" y="{TOP}" width="{max(right - left, 1):.1f}"'
        f' height="{HEIGHT - BOTTOM - TOP}"><title>q01 {slot.q01:.4g}, q99 {slot.q99:.4g}</title>'
        "</rect>",
        _bars(counts, top, EDGE, WIDTH - EDGE),
        _outside(slot.bins["below"], top, 2),
        _outside(slot.bins["above"], top, WIDTH - EDGE + 6),
        f'<path class="frame" d="M{EDGE} {TOP}V{HEIGHT - BOTTOM}M{WIDTH - EDGE} {TOP}'
        f'V{HEIGHT - BOTTOM}M0 {HEIGHT - BOTTOM}H{WIDTH}"/>',
        f'<text class="tick first" x="0" y="{HEIGHT - 6}">{slot.low:.4g}</text>',
        f'<text class="tick last" x="{WIDTH}" y="{HEIGHT - 6}">{slot.high:.4g}</text>',
    ]
    middle = _place(slot, 0.0)
    if slot.low < 0 < slot.high and EDGE + 50 < middle < WIDTH - EDGE - 50:
        parts.append(f'<text class="tick" x="{middle:.1f}" y="{HEIGHT - 6}">0</text>')
    return "".join([*parts, "</svg>"])


def length_histogram(lengths: dict[str, Any]) -> str:
    """How many episodes have which number of steps; see `histogram.length_counts`."""
    low, width, counts = lengths["min"], lengths["width"], lengths["counts"]
    said = f"median {lengths['median']:g}; a bar is {width} step{'s' * (width > 1)}"
    top = math.sqrt(max(*counts, 1))
    return "".join(
        [
            _open(f"episode lengths: {said}"),
            '<text class="name" x="0" y="13">steps an episode</text>',
            f'<text class="said" x="0" y="30">{said}</text>',
            _bars(counts, top, 0, WIDTH),
            f'<path class="frame" d="M0 {HEIGHT - BOTTOM}H{WIDTH}"/>',
            f'<text class="tick first" x="0" y="{HEIGHT - 6}">{low}</text>',
            f'<text class="tick last" x="{WIDTH}" y="{HEIGHT - 6}">{lengths["max"]}</text></svg>',
        ]
    )


def _open(label: str) -> str:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<svg class="histogram" {size} role="img" aria-label="{escape(label)}">'


def _total(bins: dict[str, Any]) -> int:
    return sum(bins["counts"]) + bins["below"] + bins["above"]


def _place(slot: Slot, value: float) -> float:
    """Where a value lies on the axis; beyond the bounds it is in the margin."""
    if slot.low == slot.high:
        return WIDTH / 2
    share = (value - slot.low) / (slot.high - slot.low)
    return min(max(EDGE + share * (WIDTH - 2 * EDGE), 2), WIDTH - 2)


def _bars(counts: Sequence[int], top: float, left: float, right: float) -> str:
    """All bars as one path."""
    width, foot, path = (right - left) / len(counts), HEIGHT - BOTTOM, []
    least = 1.5 if sum(map(bool, counts)) > FEW else 3.0
    for i, count in enumerate(counts):
        if count:
            height = max(1.0, (foot - TOP) * math.sqrt(count) / top)
            gap = 0.12 * width if len(counts) < 64 else 0
            wide = max(width - gap, least)
            x = min(left + i * width + gap / 2, right - wide)
            path.append(f"M{x:.2f} {foot}v{-height:.1f}h{wide:.2f}v{height:.1f}z")
    return f'<path class="bars" d="{"".join(path)}"/>'


def _outside(count: int, top: float, x: float) -> str:
    if not count:
        return ""
    height = max(1.0, (HEIGHT - BOTTOM - TOP) * math.sqrt(count) / top)
    return (
        f'<rect class="outside" x="{x}" width="{EDGE - 8}" y="{HEIGHT - BOTTOM - height:.1f}"'
        f' height="{height:.1f}"><title>{count} outside</title></rect>'
    )
