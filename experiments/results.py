"""Rows of an experiment's results.json, and the tables of its README that are made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

MARK = "<!-- from results.json, by run.py -->"  # before and after each table
Rows = dict[str, dict]  # by their names


def keep(folder: Path, found: list[dict], tables: Callable[[Rows], list[str]]) -> None:
    """Puts the rows in the place of those with the same names, and the README's tables anew."""
    file, readme = folder / "results.json", folder / "README.md"
    kept = json.loads(file.read_text()) if file.exists() else []
    rows = {one["name"]: one for one in kept} | {one["name"]: one for one in found}
    file.write_text(json.dumps(list(rows.values()), indent=2) + "\n")
    parts = readme.read_text().split(MARK)
    parts[1::2] = [f"\n{table}\n" for table in tables(rows)]
    readme.write_text(MARK.join(parts))


def markdown(heads: list[str], lines: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in [heads, ["---"] * len(heads), *lines]
    )
