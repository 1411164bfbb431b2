"""The table of dataset specs by name, and rows of one's own."""

from rt2.data.dataset_spec import DatasetSpec, FixedText, Keep, from_config
from rt2.data.errors import DataError, nearest
from rt2.data.parts import Part
from rt2.data.sets import bridge, language_table, libero, rtx, tabletop

__all__ = ["SPECS", "DatasetSpec", "FixedText", "Keep", "Part", "from_config", "get"]

SPECS = {
    row.name: row
    for rows in (tabletop, bridge, rtx, language_table, libero)
    for row in rows.ROWS
}


def get(name: str) -> DatasetSpec:
    """The row `name` of SPECS. Raises DataError with the nearest valid name."""
    if name not in SPECS:
        raise DataError(
            f"unknown data set {name!r}: {nearest(name, SPECS)}. A data set of your own needs one "
            "row in your config; `python -m rt2.data.inspect DIR` proposes it."
        )
    return SPECS[name]
