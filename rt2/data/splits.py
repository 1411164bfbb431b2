"""Parts of a split: `train`, `train[:20]`, `train[80%:]`."""

import re

from rt2.data.errors import DataError

_FORM = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<begin>-?\d+%?)?:(?P<end>-?\d+%?)?\])?")


def parse(split: str) -> tuple[str, tuple[str, str]]:
    """("train", ("", "80%")) of "train[:80%]". Raises DataError for another form."""
    found = _FORM.fullmatch(split)
    if found is None:
        raise DataError(
            f"split {split!r}: expected a name such as train, train[:20] or train[:80%]"
        )
    begin, end = found["begin"] or "", found["end"] or ""
    if begin and end and begin.endswith("%") != end.endswith("%"):
        raise DataError(
            f"split {split!r}: give both boundaries in records or both in per cent (TFDS would "
            "read the plain number as per cent too)"
        )
    return found["name"], (begin, end)


def bounds(split: str, records: int) -> tuple[int, int]:
    """(first, last + 1) of the records that the part holds, of a split of `records`.

    As TFDS's ReadInstruction: per cent are rounded to the nearest record, a negative boundary
    counts from the end. Raises DataError where a boundary lies outside or nothing is left.
    """
    _, (begin, end) = parse(split)
    first = _boundary(split, begin, records, 0)
    last = _boundary(split, end, records, records)
    if first >= last:
        raise DataError(f"split {split!r}: no record of {records} is left")
    return first, last


def _boundary(split: str, text: str, records: int, default: int) -> int:
    if not text:
        return default
    if text.endswith("%"):
        number = round(int(text[:-1]) * records / 100)
    else:
        number = int(text)
    if abs(number) > records:
        raise DataError(f"split {split!r}: {text} lies outside its {records} records")
    return number + records if number < 0 else number
