"""Span corruption of text (T5, Raffel et al. 2020, section 3.1.4), on token ids.

text     Thank you for inviting me to your party last week
input    Thank you <0> me to your party <1> week
target   <0> for inviting <1> last
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from rt2.data.errors import DataError
from rt2.data.web import answers


@dataclasses.dataclass(frozen=True)
class SpanCorruption:
    """`density`: the share of tokens that are hidden, in spans of `mean_span` on average.

    `sentinels`: the ids that stand for spans, in order (`Tokenizer.sentinels`). T5 hides 15 % in
    spans of 3. Raises DataError for a share outside 0..1, short spans or no sentinels.
    """

    sentinels: tuple[int, ...]
    density: float
    mean_span: float

    def __post_init__(self):
        if not 0 < self.density < 1 or self.mean_span < 1:
            raise DataError(
                f"span corruption of density={self.density}, mean_span={self.mean_span}: expected "
                "a share between 0 and 1, and spans of at least one token"
            )
        if not self.sentinels:
            raise DataError(
                "span corruption needs sentinels: train the tokenizer with some "
                "(config.tokenizer.sentinels)"
            )

    def row(
        self,
        ids: Sequence[int],
        prefix_length: int,
        target_length: int,
        *,
        seed: int,
        epoch: int,
        example: int,
    ) -> tuple[list[int], list[int]]:
        """(input ids, target ids without an end token), a function of the arguments alone.

        A text that does not fit gives a part of it that does, at a place drawn anew in each epoch.
        Raises DataError for a text of fewer than two tokens, or one that holds a sentinel.
        """
        if len(ids) < 2 or not set(self.sentinels).isdisjoint(ids):
            fault = "is of fewer than two tokens" if len(ids) < 2 else "holds a sentinel's token"
            raise DataError(f"text {example}: {fault}, so no span of it can be hidden")
        rng = answers.generator(seed, epoch, example, answers.CORRUPTION)
        length = self._longest(len(ids), prefix_length, target_length)
        start = int(rng.integers(len(ids) - length + 1))
        return self.corrupt(ids[start : start + length], rng)

    def corrupt(self, ids: Sequence[int], rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """(input, target) of the whole of `ids`."""
        hidden, spans = self._counts(len(ids))
        lost = [*_parts(rng, hidden, spans), 0]
        kept = _parts(rng, len(ids) - hidden + 2, spans + 1)
        kept[0], kept[-1] = kept[0] - 1, kept[-1] - 1  # at the ends none need be kept
        inputs: list[int] = []
        targets: list[int] = []
        place = 0
        for i in range(spans + 1):
            inputs += ids[place : place + kept[i]]
            place += kept[i]
            if i < spans:
                inputs.append(self.sentinels[i])
                targets += [self.sentinels[i], *ids[place : place + lost[i]]]
            place += lost[i]
        return inputs, targets

    def _counts(self, length: int) -> tuple[int, int]:
        """(hidden tokens, spans) of a text of `length` >= 2 tokens."""
        hidden = min(max(round(length * self.density), 1), length - 1)
        spans = max(round(hidden / self.mean_span), 1)
        return hidden, min(spans, hidden, length - hidden + 1)

    def _longest(self, length: int, prefix_length: int, target_length: int) -> int:
        """The longest text of at most `length` tokens whose row fits, its end token included."""
        for candidate in range(min(length, prefix_length + target_length), 1, -1):
            hidden, spans = self._counts(candidate)
            fits = candidate - hidden + spans <= prefix_length
            if fits and hidden + spans < target_length and spans <= len(self.sentinels):
                return candidate
        raise DataError(
            f"no text of two tokens fits in a prefix of {prefix_length} and a target of "
            f"{target_length}: raise config.prefix_length or config.target_length"
        )


def _parts(rng: np.random.Generator, total: int, parts: int) -> list[int]:
    """`total` cut into `parts` of at least one each, every way equally likely."""
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff([0, *cuts, total]).tolist()
