"""Pieces of a page: cards, tables, figures. Every text that comes in is escaped here."""

from collections.abc import Sequence
from html import escape

from rt2.evaluate.statistics import Mean, Rate
from rt2.evaluate.video import Video, data_uri, webp


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


def count_card(what: str, count: int, detail: str) -> str:
    """A count in large type."""
    return (
        f'<div class="card"><div class="what">{escape(what)}</div>'
        f'<div class="figure">{count:,}</div>'
        f'<div class="detail">{escape(detail)}</div></div>'
    )


def table(head: Sequence[str], rows: Sequence[Sequence], styles: Sequence[str] = ()) -> str:
    """A table in a panel; cells that are rates, means or numbers stand at the right.

    `styles` gives each row's class, or nothing.
    """
    numeric = [any(not isinstance(row[i], str) for row in rows) for i in range(len(head))]
    cells = "".join(f"<th{_number(n)}>{escape(h)}</th>" for h, n in zip(head, numeric, strict=True))
    body = []
    for index, row in enumerate(rows):
        style = f' class="{escape(styles[index])}"' if styles and styles[index] else ""
        data = "".join(
            f"<td{_number(n)}>{_cell(value)}</td>" for value, n in zip(row, numeric, strict=True)
        )
        body.append(f"<tr{style}>{data}</tr>")
    return (
        f'<div class="panel"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def words(name: str) -> str:
    """`web_only` -> `web only`."""
    return name.replace("_", " ")


def _number(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _cell(value) -> str:
    if value is None:
        return "&ndash;"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, Rate | Mean):
        figure, count = escape(str(value)).split(" (", 1)
        return f"{figure} <small>({count}</small>"
    raise TypeError(f"a table shows text, counts, rates and means, not {type(value).__name__}")


def video(shown: Video) -> str:
    """An episode as a moving picture with its instruction, outcome and length."""
    outcome = "success" if shown.success else "failure"
    return (
        f'<figure class="{outcome}"><img loading="lazy" src="{data_uri(webp(shown.frames))}"'
        f' alt="{escape(shown.instruction)}: {outcome}"><figcaption>{escape(shown.instruction)}'
        f"<span><b>{outcome}</b> after {shown.steps} steps</span>"
        "</figcaption></figure>"
    )


def section(title: str, lead: str, *parts: str) -> str:
    """A titled part of the page with one sentence on how to read it."""
    return f"<section><h2>{escape(title)}</h2><p>{escape(lead)}</p>{''.join(parts)}</section>"


def definitions(items: Sequence[tuple[str, str]]) -> str:
    """A list of terms and what they stand for."""
    pairs = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in items)
    return f"<dl>{pairs}</dl>"
