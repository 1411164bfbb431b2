"""TFDS sets in the form of `vqa` (version 3.0.0 of big_vision, and this project's own).

Read are image, question_text, question_type, answer_type and answers; big_vision's top_answer and
answer_confidences stand in the index, but the answers are all that is asked for: how often an
answer was given is its count among them.
"""

from pathlib import Path

import numpy as np

from rt2 import prompts
from rt2.data import image
from rt2.data.errors import DataError
from rt2.data.records import WEB_KINDS, WebExample
from rt2.data.rlds import RldsSteps
from rt2.data.storage import Url

FEATURES = ("image", "question_text", "question_type", "answer_type")


class TfdsRows:
    """The rows of a split; each has an answer. Raises DataError where one has none.

    Where question_type is one of WEB_KINDS, question_text is the full prompt and answer_type the
    language. Otherwise (the public sets) the kind is "vqa" and the question gets the prompt of
    PaLI's style in `language`.
    """

    def __init__(self, directory: Path | Url, split: str, language: str, quarantine: float):
        self.language = language
        self.steps = RldsSteps(directory, split, quarantine=quarantine)
        if self.steps.index.features.episodic:
            raise DataError(f"{directory}: is a set of episodes; read it with rt2.data.robot")
        for name in FEATURES:
            self.steps.leaf(name)
        ragged = {leaf.name: leaf for leaf in self.steps.index.features.at("ragged")}
        if "answers" not in ragged:
            raise DataError(f"{directory}: has no sequence 'answers'; it is not in the vqa form")
        self.answers = ragged["answers"]
        self.dropped = self._check_answers(directory)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def content_hash(self) -> str:
        """The hash of the set's index and of the language."""
        return f"{self.steps.index.content_hash}/{self.language}"

    @property
    def quarantined(self) -> list[str]:
        """The damaged records of all splits that were left out: shard, record and reason."""
        return [entry["reason"] for entry in self.steps.index.quarantined]

    def text(self, i: int) -> tuple[str, tuple[str, ...]]:
        """(question, answers) of row `i`; empty answers beside others are left out."""
        kind, language = self._kind(i)
        question = self.steps.value("question_text", i).decode()
        if kind == "vqa":
            question = prompts.vqa_prompt(question, language)
        answers = (a.decode() for a in self.steps.ragged(self.answers, i))
        return question, tuple(a for a in answers if a.strip())

    def example(self, i: int) -> WebExample:
        """Row `i` with its image."""
        where = self.steps.example_id(i)
        kind, language = self._kind(i)
        question, answers = self.text(i)
        return WebExample(
            image=image.decode(self.steps.encoded("image", i), where),
            kind=kind,
            language=language,
            question=question,
            answers=answers,
            example_id=where,
        )

    def _kind(self, i: int) -> tuple[str, str]:
        kind, language = (self.steps.value(n, i).decode() for n in ("question_type", "answer_type"))
        return (kind, language) if kind in WEB_KINDS else ("vqa", self.language)

    def _check_answers(self, directory: Path | Url) -> dict[str, int]:
        key, split = self.answers.key, self.steps.split
        first, ids = split.column(f"{key}.first"), split.column(f"{key}.id")
        used, place = np.unique(ids, return_inverse=True)
        said = np.array([bool(split.strings[i].strip()) for i in used], bool)
        total = np.concatenate([[0], np.cumsum(said[place] if len(ids) else [])])
        none = np.flatnonzero(total[first[1:]] == total[first[:-1]])
        if len(none):
            raise DataError(
                f"{directory}: {split.split}: {len(none)} of {len(self)} rows have no answer, the "
                f"first is {none[0]}. Read a split with answers, or write the set without them."
            )
        empty = int(len(ids) - total[-1])
        return {"empty answers beside others": empty} if empty else {}
