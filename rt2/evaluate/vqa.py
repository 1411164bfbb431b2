"""Answers about pictures: exact match, VQA accuracy, and the distance of an answered place."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rt2.evaluate import captions
from rt2.evaluate.results import CAPTION, PLACES
from rt2.evaluate.statistics import Mean, Rate

_PLACE = re.compile(r"^\s*(\d+)\s+(\d+)\s*$")


@dataclass(frozen=True)
class Answered:
    """One question with the text that the policy gave and the answers that people gave."""

    kind: str
    language: str
    text: str
    answers: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether the text equals one of the answers (case, outer space and a final stop aside)."""
        return normalised(self.text) in {normalised(answer) for answer in self.answers}

    @property
    def distance(self) -> float | None:
        """For PLACES: cells between the answered and the nearest true place, None if no place."""
        place = read_place(self.text)
        truths = [read_place(answer) for answer in self.answers]
        if place is None or None in truths:
            return None
        return min(math.dist(place, truth) for truth in truths)


def ask(policy: Any, examples: Sequence[Any], batch: int) -> Iterable[Answered]:
    """Yields the policy's answer to each `WebExample`, in order, asked `batch` at a time."""
    for start in range(0, len(examples), batch):
        rows = [examples[i] for i in range(start, min(start + batch, len(examples)))]
        observations = [
            {"image": row.image, "instruction": row.question, "mode": "vqa"} for row in rows
        ]
        for row, reply in zip(rows, policy.infer_batch(observations), strict=True):
            yield Answered(row.kind, row.language, reply["text"], row.answers)


def summarise(answered: Iterable[Answered], before: Iterable[Answered] = ()) -> list[dict]:
    """One row per kind and language: exact Rate, VQA accuracy Mean; for PLACES the distance too.

    `unreadable` counts the answers to these that are no place and so have no distance; it is None
    for other kinds. `cider` is that of two captions or more, where its library is installed.
    `before`: the exact Rate of what another policy said to the same questions, if any.
    """
    rows = [_row(*key, some) for key, some in _groups(answered)]
    earlier = {key: Rate.of(answer.exact for answer in some) for key, some in _groups(before)}
    return [row | {"before": earlier.get((row["kind"], row["language"]))} for row in rows]


def _groups(answered: Iterable[Answered]) -> list[tuple[tuple[str, str], list[Answered]]]:
    """The answers by kind and language."""
    groups = defaultdict(list)
    for answer in answered:
        groups[answer.kind, answer.language].append(answer)
    return sorted(groups.items())


def _row(kind: str, language: str, rows: Sequence[Answered]) -> dict:
    row = {
        "kind": kind,
        "language": language,
        "exact": Rate.of(answer.exact for answer in rows),
        "accuracy": Mean.of(vqa_accuracy(answer.text, answer.answers) for answer in rows),
        "distance": None,
        "unreadable": None,
        "cider": None,
    }
    if kind == CAPTION and len(rows) > 1 and captions.installed():
        said = [normalised(answer.text) for answer in rows]
        wanted = [[normalised(one) for one in answer.answers] for answer in rows]
        row["cider"] = captions.cider(said, wanted)
    if kind in PLACES:
        distances = [answer.distance for answer in rows]
        known = [distance for distance in distances if distance is not None]
        row["distance"] = Mean.of(known) if known else None
        row["unreadable"] = len(distances) - len(known)
    return row


def vqa_accuracy(text: str, answers: Sequence[str]) -> float:
    """min(n / 3, 1) for n people who gave this answer (Antol et al. 2015), in 0..1.

    With fewer than three answers to a question the measure has no meaning: exact match instead.
    """
    if not answers:
        raise ValueError("a question without an answer cannot be scored")
    agreeing = sum(normalised(answer) == normalised(text) for answer in answers)
    return float(agreeing > 0) if len(answers) < 3 else min(agreeing / 3, 1.0)


def leave_one_out_accuracy(text: str, answers: Sequence[str]) -> float:
    """The mean of min(n / 3, 1) over all choices of one person to leave out, in 0..1.

    n people of the others gave this answer: the form in which VQAv2 and OKVQA report (Goyal et al.
    2017). Their script also drops articles and punctuation and writes number words as digits before
    it compares; here answers are compared as `normalised` leaves them. With fewer than four answers
    the measure has no meaning: exact match instead.
    """
    if not answers:
        raise ValueError("a question without an answer cannot be scored")
    same = [normalised(answer) == normalised(text) for answer in answers]
    if len(answers) < 4:
        return float(any(same))
    return sum(min((sum(same) - one) / 3, 1.0) for one in same) / len(same)


def normalised(answer: str) -> str:
    """`answer` in lower case, with single spaces and without a final full stop."""
    return " ".join(answer.lower().split()).removesuffix(".").rstrip()


def read_place(text: str) -> tuple[int, int] | None:
    """The place that "x y" names, or None where the text is no place."""
    found = _PLACE.match(text)
    return (int(found[1]), int(found[2])) if found else None
