"""Texts that read alike are one text; nothing is cut."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt2.inference.wording import WordingError, plain

HIDDEN = "\u200b\u200e\u2060\ufeff\u00ad\U000e0041"


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Cf")), min_size=1))
def test_twins_are_one_text(text):
    limit = 10_000
    if not text.strip():
        return
    made = plain("x", text, limit)
    assert made == unicodedata.normalize("NFC", text) == plain("x", made, limit)
    twins = [unicodedata.normalize("NFD", text), HIDDEN + text, text + HIDDEN]
    assert [plain("x", twin, limit) for twin in twins] == [made] * 3


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "x: empty"),
        (" \t\n", "x: empty"),
        ("a\x7f", "U\\+007F"),
        (HIDDEN, "x: empty"),
        ("\u200d", "x: empty"),
        ("\u3000 ", "x: empty"),
        ("a\u0301" * 200, "600 bytes, at most 512"),
        ("\u202eab", "U\\+202E"),
        ("\ud83d", "U\\+D83D"),
        (b"push", "x: bytes"),
    ],
    ids=ascii,
)
def test_what_is_not_taken(text, words):
    with pytest.raises(WordingError, match=words):
        plain("x", text, 512)


def test_joiners_of_scripts_and_emoji_stay():
    text = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f52c"
    assert plain("x", text, 512) == text
