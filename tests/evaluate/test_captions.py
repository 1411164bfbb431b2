"""CIDEr; what the library itself says is checked where it is installed."""

import sys
import types

import pytest

from rt2.evaluate import captions, vqa
from rt2.evaluate.vqa import Answered


@pytest.fixture
def library(monkeypatch):
    """A stand-in for pycocoevalcap that keeps what it is asked."""
    asked = {}

    class Cider:
        def compute_score(self, gts, res):
            asked.update(wanted=gts, given=res)
            return 1.25, [1.0, 1.5]

    module = types.ModuleType("pycocoevalcap.cider.cider")
    module.Cider = Cider
    monkeypatch.setitem(sys.modules, "pycocoevalcap.cider.cider", module)
    for name in ("pycocoevalcap", "pycocoevalcap.cider"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(captions, "installed", lambda: True)
    return asked


ROWS = [
    Answered("caption", "en", "A red fox.", ("a fox", "the red fox")),
    Answered("caption", "en", "a key", ("a key",)),
    Answered("what", "en", "fox", ("fox",)),
    Answered("what", "en", "fox", ("fox",)),
]


def test_captions_of_one_language_are_scored_together(library):
    caption, what = vqa.summarise(ROWS)
    assert caption["cider"] == 1.25 and what["cider"] is None
    assert library["given"] == {0: ["a red fox"], 1: ["a key"]}
    assert library["wanted"] == {0: ["a fox", "the red fox"], 1: ["a key"]}


def test_a_single_caption_has_no_score(library):
    assert vqa.summarise(ROWS[:1])[0]["cider"] is None
    with pytest.raises(ValueError, match="needs two"):
        captions.cider(["a key"], [["a key"]])


def test_without_the_library_nothing_is_scored(monkeypatch):
    monkeypatch.setattr(captions, "installed", lambda: False)
    assert vqa.summarise(ROWS)[0]["cider"] is None


def test_equal_captions_have_ten_and_foreign_ones_nothing():
    pytest.importorskip("pycocoevalcap")
    said = ["a red fox runs here", "two keys on a table"]
    assert captions.cider(said, [[text] for text in said]) == pytest.approx(10.0)
    assert captions.cider(["no match", "at all"], [[text] for text in said]) == 0.0
