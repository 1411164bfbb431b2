"""Frames of one episode, in scripts and in sessions of the server."""

import numpy as np
import pytest

from rt2.inference.history import Episode, History
from tests.inference.serving import StubPolicy, always, ask, grey, opened, serving


class Remembers(StubPolicy):
    """Moves by the frames it is shown, one digit each."""

    def __init__(self):
        super().__init__()
        self.metadata |= {"history": 3}

    def infer(self, observation):
        return self.infer_batch([observation])[0]

    def move(self, observation):
        image = observation["image"]
        frames = image if isinstance(image, list) else [image]
        shown = float("".join(str(int(np.asarray(frame).mean())) for frame in frames))
        return super().move({"image": np.float32(shown)})


def moves(replies):
    return [int(reply["actions"][0, 0]) for reply in replies]


def test_an_episode_shows_the_last_frames_until_its_reset():
    episode = Episode(Remembers())
    assert moves(episode.infer(grey(i)) for i in (1, 2, 3, 4)) == [1, 12, 123, 234]
    question = grey(9, mode="vqa")
    given = grey(0) | {"image": [grey(7)["image"], grey(8)["image"]]}
    camera = grey(0) | {"image": {"front": grey(5)["image"]}}
    assert moves(episode.infer(row) for row in (question, given, camera)) == [9, 78, 345]
    episode.reset()
    assert moves([episode.infer(grey(6))]) == [6]


def test_a_model_of_one_frame_gets_what_was_sent():
    row = grey(3)
    assert History(1, ["image"]).shown(row) is row
    two = row | {"image": {"left": row["image"], "right": row["image"]}}
    assert History(2, ["image"]).shown(two) is two


def test_of_several_cameras_the_first_has_a_past():
    def seen(i):
        return grey(i) | {"image": {"wrist": grey(10 * i)["image"], "front": grey(i)["image"]}}

    history = History(2, ["front", "wrist"])
    history.shown(seen(1))
    image = history.shown(seen(2))["image"]
    assert [int(frame.mean()) for frame in image["front"]] == [1, 2]
    assert int(image["wrist"].mean()) == 20


@pytest.fixture(scope="module")
def served():
    with serving(always(Remembers())) as running:
        yield running


def test_every_session_has_its_own_frames_until_its_reset(served):
    (one, _), (two, _) = opened(served), opened(served)
    with one, two:
        told = [ask(one, grey(1)), ask(two, grey(5)), ask(one, grey(2)), ask(two, grey(6))]
        assert moves(told) == [1, 5, 12, 56]
        ask(one, {"reset": True})
        assert moves([ask(one, grey(3)), ask(two, grey(7))]) == [3, 567]
