"""The rule of the target, and draws that depend on (seed, epoch, example) alone."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt2.data.errors import DataError
from rt2.data.web import answers
from rt2.data.web.answers import choose

PEOPLE = ["no", "yes", "yes", "maybe", "yes", "no", "no", "no", "yes", "yes"]


def test_first_and_frequent():
    at = dict(seed=0, epoch=0, example=0)
    assert choose(PEOPLE, "first", **at) == "no"
    assert choose(PEOPLE, "frequent", **at) == "yes"
    assert choose(["b", "a", "a", "b"], "frequent", **at) == "b"


@given(st.lists(st.text(), min_size=1, max_size=10), *[st.integers(0, 2**32)] * 3)
def test_a_random_target_is_an_answer_and_the_same_one_again(given, seed, epoch, example):
    at = dict(seed=seed, epoch=epoch, example=example)
    assert choose(given, "random", **at) in given
    assert choose(given, "random", **at) == choose(given, "random", **at)


@pytest.mark.parametrize("vary", ["seed", "epoch", "example"])
def test_random_targets_come_as_often_as_people_gave_them(vary):
    at = dict(seed=3, epoch=1, example=7)
    drawn = Counter(choose(PEOPLE, "random", **at | {vary: i}) for i in range(4000))
    for answer, count in Counter(PEOPLE).items():
        expected = 400 * count
        assert abs(drawn[answer] - expected) < 5 * (expected * (1 - count / 10)) ** 0.5


def test_purposes_draw_apart():
    drawn = [answers.generator(0, 0, 0, purpose).integers(2**62) for purpose in range(2)]
    assert drawn[0] != drawn[1]


def test_unknown_rule_and_no_answer():
    with pytest.raises(DataError, match="answer='most': .*'frequent'"):
        choose(PEOPLE, "most", seed=0, epoch=0, example=0)
    with pytest.raises(DataError, match="no answer"):
        choose([], "first", seed=0, epoch=0, example=0)
