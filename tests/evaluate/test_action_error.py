from types import SimpleNamespace

import numpy as np
import pytest

from rt2.actions import LANGUAGE_TABLE, ActionCodec
from rt2.evaluate import actions

CODEC = ActionCodec(LANGUAGE_TABLE, (-0.105, -0.105), (0.105, 0.105))  # 21 cells of 1 cm

FIRST_ID = 100  # the token of bin 0


def example(action, images=1):
    return SimpleNamespace(
        images=tuple(np.full((4, 4, 3), i, np.uint8) for i in range(images)),
        instruction="move to the strawberry",
        action=np.array(action, np.float32),
        terminate=False,
        state=None,
        example_id="val/0/0",
    )


class Constant:
    """Always gives one action."""

    preprocess = SimpleNamespace(
        codec={"tabletop": CODEC}.__getitem__,
        vocabulary=SimpleNamespace(tokens=lambda bins: bins + FIRST_ID),
    )

    def __init__(self, action):
        self.action = np.array(action, np.float32)

    def infer_batch(self, observations):
        tokens = CODEC.encode(np.nan_to_num(self.action)) + FIRST_ID
        return [{"actions": self.action[None], "tokens": tokens} for _ in observations]


def test_error_is_in_metres_per_dimension():
    examples = [example((0.01 * k, 0.0)) for k in range(5)]
    result = actions.compare(Constant((0.0, 0.03)), "tabletop", examples, batch=2)
    dx, dy = result["slots"]
    assert (dx["name"], dx["unit"], dx["error"].n) == ("dx", "m", 5)
    assert dx["error"].value == pytest.approx(0.02)
    assert dy["error"].value == pytest.approx(0.03)
    assert dx["baseline"].value == pytest.approx(0.012)  # |x - median| of 0 .. 4 cm
    assert result["token_accuracy"].hits == 1  # dx of the first example alone
    assert result["token_accuracy"].n == 10


def test_actions_that_are_not_finite_are_counted_and_enter_no_mean():
    result = actions.compare(
        Constant((np.nan, 0.0)), "tabletop", [example((0.0, 0.0))] * 3, batch=2
    )
    assert result["invalid"] == 3
    assert result["slots"] == []


def test_the_policy_is_asked_with_all_pictures_oldest_first_and_the_data_set():
    asked = actions.observation(example((0.0, 0.0), images=3), "tabletop")
    assert [int(image[0, 0, 0]) for image in asked["image"]] == [0, 1, 2]
    assert asked["dataset"] == "tabletop" and "state" not in asked
    moved = SimpleNamespace(**vars(example((0.0, 0.0))) | {"state": np.array([0.5])})
    assert actions.observation(moved, "tabletop")["state"] == [0.5]
