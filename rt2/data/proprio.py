"""The proprioceptive state as integers, for questions and answers in words."""

import numpy as np

from rt2.actions import ActionCodec, ActionSpec, Slot
from rt2.data.errors import DataError
from rt2.data.robot import RobotExamples
from rt2.data.statistics import describe


def state_codec(examples: RobotExamples) -> ActionCodec:
    """256 bins a number between its least and largest value in the trainable steps.

    Nothing lies outside these bounds, and every state has the same count of integers: a number that
    never changes is the middle bin. Raises DataError where the spec has no state.
    """
    if examples.spec.state is None:
        raise DataError(
            f"dataset spec {examples.spec.name!r} has no state: name a feature, or leave out the "
            "state"
        )
    found = describe(examples.states)
    low, high = np.array(found.min), np.array(found.max)
    still = low == high
    low, high = np.where(still, low - 1, low), np.where(still, high + 1, high)
    spec = ActionSpec(tuple(Slot(f"state_{i}") for i in range(len(low))))
    return ActionCodec(spec, tuple(map(float, low)), tuple(map(float, high)))
