"""Which of several accepted answers a row is trained on.

first      as the source gives them
random     any, anew in each epoch; one that three of ten people gave comes up three times in ten
frequent   the one given most often; of several, the first
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rt2.data.errors import DataError, nearest

RULES = ("first", "random", "frequent")
ANSWER, CORRUPTION = 0, 1  # what a draw is for


def generator(seed: int, epoch: int, example: int, purpose: int) -> np.random.Generator:
    """Random numbers of their own for each (seed, epoch, example number, purpose); none negative.

    `seed` is that of the source: two sources of one seed would draw alike.
    """
    counter = [0, 0, purpose, example]  # the first two count the numbers drawn
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=counter))


def check_rule(rule: str) -> str:
    """`rule`. Raises DataError with the nearest valid name."""
    if rule not in RULES:
        raise DataError(f"answer={rule!r}: {nearest(rule, RULES)}")
    return rule


def choose(answers: Sequence[str], rule: str, *, seed: int, epoch: int, example: int) -> str:
    """The target among `answers`, a function of the arguments alone."""
    check_rule(rule)
    if not answers:
        raise DataError("no answer to choose from")
    if rule == "frequent":
        return Counter(answers).most_common(1)[0][0]
    place = 0
    if rule == "random":
        place = int(generator(seed, epoch, example, ANSWER).integers(len(answers)))
    return answers[place]
