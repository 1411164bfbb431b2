"""The errors of the data path; each message names the file, record or key and the remedy."""

import difflib
from collections.abc import Iterable

from rt2.errors import UserError


class DataError(UserError):
    """A data set that cannot be read or trusted."""


class ImageError(DataError):
    """Image bytes that cannot be decoded safely."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """A clause for an error message: the closest valid name, then all of them."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}valid names: {', '.join(map(repr, valid)) or 'none'}"
