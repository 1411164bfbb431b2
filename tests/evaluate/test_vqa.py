from types import SimpleNamespace

import numpy as np
import pytest

from rt2.evaluate import vqa
from rt2.evaluate.vqa import Answered


def example(kind="what", language="en", question="q", answers=("strawberry",)):
    image = np.zeros((4, 4, 3), np.uint8)
    return SimpleNamespace(
        image=image, kind=kind, language=language, question=question, answers=answers
    )


class Parrot:
    """Answers every question with the question, and records the sizes of the batches."""

    def __init__(self):
        self.batches = []

    def infer_batch(self, observations):
        assert all(observation["mode"] == "vqa" for observation in observations)
        self.batches.append(len(observations))
        return [{"text": observation["instruction"]} for observation in observations]


@pytest.mark.parametrize(
    "text, answers, accuracy",
    [
        ("yes", ["yes"] * 2 + ["no"] * 8, 2 / 3),
        ("yes", ["yes"] * 3 + ["no"] * 7, 1.0),
        ("yes", ["yes"] * 10, 1.0),
        ("maybe", ["yes"] * 10, 0.0),
        (" A  Strawberry. ", ["a strawberry"], 1.0),
        ("straw", ["a strawberry"], 0.0),
    ],
)
def test_vqa_accuracy(text, answers, accuracy):
    assert vqa.vqa_accuracy(text, answers) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    "text, answers, accuracy",
    [  # of ten people, n agree: (n * min((n - 1) / 3, 1) + (10 - n) * min(n / 3, 1)) / 10
        ("yes", ["yes"] * 0 + ["no"] * 10, 0.0),
        ("yes", ["yes"] * 1 + ["no"] * 9, 0.3),
        ("yes", ["yes"] * 2 + ["no"] * 8, 0.6),
        ("Yes.", ["yes"] * 3 + ["no"] * 7, 0.9),
        ("yes", ["no"] * 6 + ["yes"] * 4, 1.0),
        ("yes", ["yes", "no", "no"], 1.0),
    ],
)
def test_vqa_accuracy_with_one_person_left_out(text, answers, accuracy):
    assert vqa.leave_one_out_accuracy(text, answers) == pytest.approx(accuracy)


@pytest.mark.parametrize("score", [vqa.vqa_accuracy, vqa.leave_one_out_accuracy])
def test_a_question_without_answers_is_refused(score):
    with pytest.raises(ValueError, match="cannot be scored"):
        score("yes", [])


@pytest.mark.parametrize(
    "text, place", [("12 30", (12, 30)), (" 0 0 ", (0, 0)), ("12", None), ("12 30 4", None)]
)
def test_places(text, place):
    assert vqa.read_place(text) == place


def test_the_distance_of_a_place_is_in_cells_and_unreadable_answers_are_counted():
    rows = [
        Answered("where", "en", "3 4", ("0 0",)),
        Answered("where", "en", "10 10", ("10 10",)),
        Answered("where", "en", "on the left", ("5 5",)),
    ]
    (row,) = vqa.summarise(rows)
    assert (row["distance"].value, row["distance"].n, row["unreadable"]) == (2.5, 2, 1)
    assert str(row["exact"]).startswith("33.3 % (1/3, ")


def test_questions_are_asked_in_batches_and_in_order():
    policy = Parrot()
    examples = [example(question=str(i), answers=(str(i),)) for i in range(7)]
    answered = list(vqa.ask(policy, examples, batch=3))
    assert policy.batches == [3, 3, 1]
    assert [answer.text for answer in answered] == [str(i) for i in range(7)]
    assert all(answer.exact for answer in answered)


def test_kinds_and_languages_are_kept_apart():
    rows = [Answered(kind, lang, "a", ("a",)) for kind in ("what", "name") for lang in ("en", "de")]
    summary = [(row["kind"], row["language"]) for row in vqa.summarise(rows)]
    assert summary == [("name", "de"), ("name", "en"), ("what", "de"), ("what", "en")]


def test_what_was_answered_before_stands_beside():
    now = [Answered("what", "en", "key", ("key",)), Answered("what", "de", "?", ("Schlüssel",))]
    before = [Answered("what", "en", "fox", ("key",)), Answered("what", "en", "key", ("key",))]
    german, english = vqa.summarise(now, before)
    assert (english["before"].hits, english["before"].n) == (1, 2)
    assert german["before"] is None
