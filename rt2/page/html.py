"""Pieces of a page: cards, tables, sections. Every text that comes in is escaped here."""

import base64
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import NamedTuple


class Figure(NamedTuple):
    """A table cell: a number as it is to be shown, and what stands small under it."""

    text: str
    detail: str = ""


Cell = str | int | Figure | None


def document(title: str, parts: Sequence[str], style: str) -> str:
    """A whole page with the common style sheet and the page's own `style` after it."""
    common = resources.files("rt2.page").joinpath("page.css").read_text("utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{common}{style}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def section(title: str, lead: str, *parts: str) -> str:
    """A titled part of the page with one sentence on how to read it."""
    return f"<section><h2>{escape(title)}</h2><p>{escape(lead)}</p>{''.join(parts)}</section>"


def panel(*parts: str) -> str:
    """A framed box."""
    return f'<div class="panel">{"".join(parts)}</div>'


def count_card(what: str, count: int, detail: str) -> str:
    """A count in large type."""
    return (
        f'<div class="card"><div class="what">{escape(what)}</div>'
        f'<div class="figure">{count:,}</div>'
        f'<div class="detail">{escape(detail)}</div></div>'
    )


def cards(items: Sequence[str]) -> str:
    """Cards side by side."""
    return f'<div class="cards">{"".join(items)}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], styles: Sequence[str] = ()) -> str:
    """A table in a panel; a column in which a cell is no text stands at the right.

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
    return panel(
        f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(body)}</tbody></table>",
    )


def definitions(items: Sequence[tuple[str, str]]) -> str:
    """A list of terms and what they stand for."""
    pairs = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in items)
    return f"<dl>{pairs}</dl>"


def data_uri(picture: bytes, kind: str) -> str:
    """`picture` as a `data:` address; `kind` is its media type, such as image/webp."""
    return f"data:{kind};base64,{base64.b64encode(picture).decode('ascii')}"


def _number(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _cell(value: Cell) -> str:
    if value is None:
        return "&ndash;"
    if isinstance(value, Figure):
        detail = f" <small>{escape(value.detail)}</small>" if value.detail else ""
        return escape(value.text) + detail
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        return escape(value)
    raise TypeError(f"a table shows text, counts and figures, not {type(value).__name__}")
