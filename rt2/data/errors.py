"""The errors of the data path; each message names the file, record or key and the remedy."""

import difflib
from collections.abc import Iterable

from rt2.errors import UserError


class DataError(UserError):
    """A data set that cannot be read or trusted."""


class RecordFault(DataError):
    """One damaged record of a shard: `code` says in a word what is wrong.

    Codes: length_crc, data_crc, truncated, not_an_example, missing_feature, unknown_feature,
    wrong_kind, partial_value, out_of_range, not_utf8, bad_image, not_finite, lengths_differ,
    empty_episode, one_step, first_flag, last_flag, terminal_flag.
    """

    def __init__(self, message: str, code: str, record: int, offset: int):
        super().__init__(message, code, record, offset)  # all of them, so that it can be pickled
        self.code, self.record, self.offset = code, record, offset

    def __str__(self) -> str:
        return self.args[0]


class ImageError(DataError):
    """Image bytes that cannot be decoded safely."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """A clause for an error message: the closest valid name, then all of them."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}valid names: {', '.join(map(repr, valid)) or 'none'}"
