import numpy as np
import pytest

from rt2.evaluate import rollouts
from rt2.sim import conditions, descriptions, pictograms, render, scenes, splits

SEEDS = range(60)


def begun(split, size=32):
    """The scenes of a split's first trials, with their first pictures."""
    for seed in SEEDS:
        running = rollouts.Trial("reach", split, seed).begin(size)
        yield running.env.scene, running.pictures[0]


@pytest.mark.parametrize("split", conditions.CONDITIONS)
def test_a_trial_repeats_and_differs_from_the_next(split):
    pictures = [picture for _, picture in begun(split)]
    again = [picture for _, picture in begun(split)]
    assert all((a == b).all() for a, b in zip(pictures, again, strict=True))
    assert (pictures[0] != pictures[1]).any()


@pytest.mark.parametrize("name", ["category", "colour", "reasoning", "symbol"])
def test_what_is_said_describes_the_target_and_nothing_else_there(name):
    known, seen = descriptions.phrases(name), set()
    pool = getattr(splits.load(), conditions.CONDITIONS[name].pool)
    for scene, _ in begun(name):
        said = next(said for said in sorted(known, key=len)[::-1] if said in scene.instruction)
        seen.add(said)
        assert set(scene.names) <= set(pool) and len(scene.names) == conditions.OBJECTS
        assert scene.names[0] in known[said]
        assert not set(scene.names[1:]) & set(known[said])
        if name != "symbol":
            assert scene.names[0] not in scene.instruction
    assert len(seen) >= 4


@pytest.mark.parametrize("name", ["category", "colour", "reasoning", "symbol"])
def test_the_lists_name_pictograms_once(name):
    named = [one for names in descriptions.phrases(name).values() for one in names]
    assert len(named) == len(set(named)) and set(named) <= set(pictograms.load().names["en"])


def test_languages_name_seen_objects_in_others_than_english():
    for scene, _ in begun("languages"):
        said = {pictograms.load().translate(scene.names[0], one) for one in conditions.FOREIGN}
        assert any(name in scene.instruction for name in said)
        assert scene.names[0] not in scene.instruction.split()
        assert set(scene.names) <= set(splits.SEEN_BY_ROBOT)


def test_arrangements_have_five_objects_and_seen_three():
    assert {len(scene.names) for scene, _ in begun("arrangements")} == {5}
    assert {len(scene.names) for scene, _ in begun("seen")} == {3}


@pytest.mark.parametrize("split", ["seen", "category", "colour", "reasoning", "symbol"])
def test_boards_have_as_many_objects_as_asked_for(split):
    for seed in range(10):
        scene = rollouts.Trial("reach", split, seed, objects=5).begin(32).env.scene
        assert len(scene.names) == 5


def test_backgrounds_are_other_than_the_robots():
    def spread(split):  # of the empty board's pixels, over the board and from its usual colour
        boards = np.stack([scene.board(32) for scene, _ in begun(split)]).astype(float)
        away = np.abs(boards.mean(axis=(1, 2)) - render.BOARD_RGB).max(axis=1)
        return boards.std(axis=(1, 2)).max(axis=1), away

    flat, near = spread("seen")
    assert flat.max() == 0 and near.max() <= 13
    flat, far = spread("backgrounds_easy")
    assert flat.max() == 0 and np.median(far) > 40
    patterned, _ = spread("backgrounds_hard")
    assert np.median(patterned) > 5 and (patterned > 0).all()


def test_a_picture_shows_its_board():
    for scene, picture in begun("backgrounds_hard"):
        same = (picture == scene.board(32)).all(axis=-1)
        assert 0.3 < same.mean() < 0.95  # the rest is objects and the effector


@pytest.mark.parametrize("name", descriptions.SHARED)
def test_no_robot_instruction_has_a_description(name):
    said = set(descriptions.phrases(name))
    spoken = {word for text in scenes.INSTRUCTIONS.values() for one in text for word in one.split()}
    spoken |= {word for name in splits.SEEN_BY_ROBOT for word in name.split()}
    words = {word for text in said for word in text.split()}
    assert words & spoken <= {"of"}  # of the board; a piece of clothing
