"""Pieces of the evaluation's page beside the common ones of `rt2.page.html`."""

from collections.abc import Sequence
from html import escape

from rt2.evaluate.statistics import Mean, Rate
from rt2.evaluate.video import Video, webp
from rt2.page import html
from rt2.page.html import Figure


def card(what: str, rate: Rate) -> str:
    """A rate in large type with its interval drawn and written."""
    low, high = (100 * bound for bound in rate.interval)
    return (
        f'<div class="card"><div class="what">{escape(what)}</div>'
        f'<div class="figure">{100 * rate.value:.1f}<small> %</small></div>'
        f'<div class="track"><i style="width:{100 * rate.value:.1f}%"></i>'
        f'<b style="left:{low:.1f}%;right:{100 - high:.1f}%"></b></div>'
        f'<div class="detail"><span>{rate.hits} of {rate.n}</span>'
        f"<span>95 % CI {low:.1f}&ndash;{high:.1f}</span></div></div>"
    )


def table(head: Sequence[str], rows: Sequence[Sequence], styles: Sequence[str] = ()) -> str:
    """`html.table`, with rates and means in two lines: the figure and its count."""
    return html.table(head, [[_shown(value) for value in row] for row in rows], styles)


def _shown(value):
    if not isinstance(value, Rate | Mean):
        return value
    figure, count = str(value).split(" (", 1)
    return Figure(figure, f"({count}")


def words(name: str) -> str:
    """`web_only` -> `web only`."""
    return name.replace("_", " ")


def video(shown: Video) -> str:
    """An episode as a moving picture with its instruction, outcome and length."""
    outcome = "success" if shown.success else "failure"
    source = html.data_uri(webp(shown.frames), "image/webp")
    return (
        f'<figure class="{outcome}"><img loading="lazy" src="{source}"'
        f' alt="{escape(shown.instruction)}: {outcome}"><figcaption>{escape(shown.instruction)}'
        f"<span><b>{outcome}</b> after {shown.steps} steps</span>"
        "</figcaption></figure>"
    )
