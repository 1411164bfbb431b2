from types import SimpleNamespace

import numpy as np
import pytest

from rt2.actions import LANGUAGE_TABLE, ActionCodec, ActionSpec, Slot
from rt2.evaluate import actions

CODEC = ActionCodec(LANGUAGE_TABLE, (-0.105, -0.105), (0.105, 0.105))  # 21 cells of 1 cm

FIRST_ID = 100  # the token of bin 0


def example(action, images=1, instruction="move to the strawberry", terminate=False, episode=0):
    return SimpleNamespace(
        images=tuple(np.full((4, 4, 3), i, np.uint8) for i in range(images)),
        instruction=instruction,
        action=np.array(action, np.float32),
        terminate=terminate,
        episode=episode,
        state=None,
        views={},
        example_id="val/0/0",
    )


class Constant:
    """Always gives one action."""

    preprocess = SimpleNamespace(
        cameras=("image",),
        codec={"tabletop": CODEC}.__getitem__,
        vocabulary=SimpleNamespace(tokens=lambda bins: bins + FIRST_ID),
    )

    def __init__(self, action):
        self.action = np.array(action, np.float32)

    def infer_batch(self, observations):
        tokens = CODEC.encode(np.nan_to_num(self.action)) + FIRST_ID
        return [{"actions": self.action[None], "tokens": tokens} for _ in observations]


STOPPING = ActionCodec(
    ActionSpec((Slot("terminate", bins=2, kind="terminate"), Slot("x"))), (0,), (1,)
)


class Reader:
    """Stops where it is told to, and moves by the first letter of the instruction."""

    preprocess = SimpleNamespace(
        cameras=("image",),
        codec={"arm": STOPPING}.__getitem__,
        vocabulary=SimpleNamespace(tokens=lambda bins: bins + FIRST_ID),
    )

    def infer_batch(self, observations):
        replies = []
        for one in observations:
            value, stop = ord(one["instruction"][0]) / 256, "stop" in one["instruction"]
            tokens = STOPPING.encode(np.array([value]), stop) + FIRST_ID
            replies.append({"actions": np.array([[value]]), "tokens": tokens, "terminate": stop})
        return replies


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


def test_histograms_count_every_value_in_its_bin():
    examples = [example((0.01 * k, 0.0)) for k in range(5)] + [example((9.0, 0.0))]
    dx, dy = actions.compare(Constant((0.0, 0.03)), "tabletop", examples, batch=2)["slots"]
    found = dx["histogram"]
    np.testing.assert_allclose(found["edges"], np.linspace(-0.105, 0.105, 22))
    assert found["recorded"] == [0] * 10 + [1] * 5 + [0] * 5 + [1]  # 9 m at the upper end
    assert found["given"] == [0] * 10 + [6] + [0] * 10
    assert dy["histogram"]["given"] == [0] * 13 + [6] + [0] * 7


def test_the_worst_episodes_come_first():
    moved = [(0.0, 0), (0.01, 0), (0.02, 1), (0.04, 1), (0.01, 2)]
    examples = [example((x, 0.0), episode=number) for x, number in moved]
    worst = actions.compare(Constant((0.0, 0.0)), "tabletop", examples, batch=2)["worst"]
    assert [row["episode"] for row in worst] == [1, 2, 0]
    assert [row["steps"] for row in worst] == [2, 1, 2]
    # |x| over the mean of |x - median|, 0.01; dy never moves and has no such share
    assert [row["error"] for row in worst] == pytest.approx([3.0, 1.0, 0.5])
    assert worst[0]["instruction"] == "move to the strawberry"


def test_only_the_worst_episodes_are_kept():
    examples = [example((0.01 * k, 0.0), episode=k) for k in range(actions.WORST + 3)]
    worst = actions.compare(Constant((0.0, 0.0)), "tabletop", examples, batch=4)["worst"]
    assert [row["episode"] for row in worst] == list(range(actions.WORST + 2, 2, -1))


def test_actions_that_are_not_finite_are_counted_and_enter_no_mean():
    result = actions.compare(
        Constant((np.nan, 0.0)), "tabletop", [example((0.0, 0.0))] * 3, batch=2
    )
    assert result["invalid"] == 3
    assert result["slots"] == []


def test_the_policy_is_asked_with_all_pictures_oldest_first_and_the_data_set():
    asked = actions.observation(example((0.0, 0.0), images=3), "tabletop", ["eye"])
    assert [int(image[0, 0, 0]) for image in asked["image"]["eye"]] == [0, 1, 2]
    assert asked["dataset"] == "tabletop" and "state" not in asked
    moved = SimpleNamespace(**vars(example((0.0, 0.0))) | {"state": np.array([0.5])})
    assert actions.observation(moved, "tabletop", ["eye"])["state"] == [0.5]


def test_stops_are_false_where_the_episode_goes_on():
    rows = [("a", False), ("a stop", False), ("a", False), ("a stop", True), ("a", True)]
    examples = [example((0.5,), instruction=text, terminate=end) for text, end in rows]
    found = actions.compare(Reader(), "arm", examples, batch=2)
    assert (found["false_stops"].hits, found["false_stops"].n) == (1, 3)
    assert (
        actions.compare(Constant((0.0, 0.0)), "tabletop", [example((0, 0))], 1)["false_stops"]
        is None
    )


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_instructions_are_heeded_where_another_one_changes_the_tokens(batch):
    examples = [example((0.5,), instruction=text) for text in ("a", "b", "a", "b", "a", "b", "a")]
    found = actions.compare(Reader(), "arm", examples, batch)["heeded"]
    assert found.value == 1.0 and found.n == {2: 6, 3: 6, 8: 7}[batch]  # a batch of one is left out
    alike = [example((0.5,), instruction=text) for text in ("go left", "go right", "go on")]
    assert actions.compare(Reader(), "arm", alike, batch)["heeded"].hits == 0
    same = [example((0.5,), instruction="a")] * 3
    assert actions.compare(Reader(), "arm", same, batch)["heeded"] is None
