"""Text from outside, made plain: what reads alike is one text, and nothing hides in it."""

from __future__ import annotations

import unicodedata

from rt2.errors import UserError

# They reorder what is shown (Unicode TR 36).
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_JOINERS = "\u200c\u200d"  # of Persian, Indic scripts and emoji
_LINES = "\n\t"  # the control characters that a question may have


class WordingError(UserError):
    """A text that is not taken; the message names the field."""


def plain(field: str, text: object, limit: int) -> str:
    """The text in NFC without invisible format characters (zero-width spaces, marks, tags).

    Raises WordingError where it is no text, is empty, has more than `limit` bytes of UTF-8, or
    holds control characters (but for tab and newline), those that reorder it, or half of a
    surrogate pair.
    """
    if not isinstance(text, str):
        raise WordingError(f"{field}: {type(text).__name__}, expected text")
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limit:
        raise WordingError(f"{field}: {size} bytes, at most {limit} are taken; shorten it")
    for character in text:
        control = unicodedata.category(character) in ("Cc", "Cs") and character not in _LINES
        if control or character in _BIDI:
            raise WordingError(
                f"{field}: holds the control character U+{ord(character):04X}; remove it"
            )
    seen = (c for c in text if unicodedata.category(c) != "Cf" or c in _JOINERS)
    made = unicodedata.normalize("NFC", "".join(seen))
    if not made.replace(_JOINERS[0], "").replace(_JOINERS[1], "").strip():
        raise WordingError(f"{field}: empty")
    return made
