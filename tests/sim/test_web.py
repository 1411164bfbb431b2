import collections
import re

import numpy as np
import pytest

from rt2.sim import backgrounds, descriptions, pictograms, questions, render, splits, web

N = 400


@pytest.fixture(scope="module")
def scenes():
    return [web.web_scene((7, i), descriptions=True) for i in range(N)]


def test_a_scene_is_a_function_of_its_seed(scenes):
    again = web.web_scene((7, 3), descriptions=True)
    assert (again.image == scenes[3].image).all()
    assert again.qa == scenes[3].qa and again.objects == scenes[3].objects
    assert (web.web_scene((8, 3)).image != again.image).any()


def test_descriptions_come_behind_the_other_rows(scenes):
    for i, scene in enumerate(scenes[:20]):
        bare = web.web_scene((7, i))
        assert (bare.image == scene.image).all() and bare.qa == scene.qa[: len(bare.qa)]
        assert {row.kind for row in scene.qa[len(bare.qa) :]} <= set(questions.DESCRIBING)


def test_only_what_the_web_may_show_is_shown(scenes):
    shown = {thing.name for scene in scenes for thing in scene.objects}
    assert shown <= set(splits.load().web)
    assert not shown & set(splits.load().held_out)
    assert shown & set(splits.load().web_only) and shown & set(splits.load().seen_by_robot)


def test_shares(scenes):
    sizes = collections.Counter(len(scene.objects) for scene in scenes)
    assert set(sizes) == {1, 2, 3, 4} and 0.33 < sizes[1] / N < 0.47
    languages = collections.Counter(row.language for scene in scenes for row in scene.qa)
    assert 0.65 < languages["en"] / languages.total() < 0.78
    assert set(languages) == set(pictograms.LANGUAGES)
    kinds = {row.kind for scene in scenes for row in scene.qa}
    assert kinds == {*questions.ROWS_OF_ONE, *questions.DESCRIBING}


@pytest.fixture(scope="module")
def full_scenes():
    return [web.web_scene((7, i), objects=web.MAX_OBJECTS) for i in range(N // 4)]


def test_a_scene_holds_as_many_things_as_are_asked_for(full_scenes):
    assert {len(scene.objects) for scene in full_scenes} == set(range(1, web.MAX_OBJECTS + 1))


def test_every_answer_is_true(scenes, full_scenes):
    for scene in [*scenes, *full_scenes]:
        assert [thing.x for thing in scene.objects] == sorted(thing.x for thing in scene.objects)
        for row in scene.qa:
            check(row, scene.objects)


def check(row, objects):
    said = {pictograms.load().translate(thing.name, row.language): thing for thing in objects}
    asked = row.question.removeprefix(f"Answer in {row.language} : ")
    if row.kind == "where":
        thing = said[asked.removeprefix("where is the ")]
        assert row.answer == f"{thing.x} {thing.y}"
    elif row.kind == "what":
        thing = said[row.answer]
        assert asked == f"what is at {thing.x} {thing.y}"
    elif row.kind == "list":
        listed = re.findall(r"(\d+) (\d+) (\D+)(?: |$)", row.answer)
        assert [(int(x), int(y), name) for x, y, name in listed] == [
            (thing.x, thing.y, name) for name, thing in said.items()
        ]
    elif row.kind in questions.DESCRIBING:
        check_description(row, asked, objects)
    elif row.kind == "name":
        assert (asked, row.answer) == ("what is this", *said)
    else:
        assert row.question == f"Generate caption in {row.language}"
        assert all(name in row.answer for name in said)


def check_description(row, asked, objects):
    here = {thing.name: thing for thing in objects}
    if row.kind == "find":
        said = asked.removeprefix("where is the ")
        known = next(
            known for known in map(descriptions.phrases, ("category", "colour")) if said in known
        )
        (thing,) = (here[name] for name in here if name in known[said])
        assert len(here) > 1 and row.answer == f"{thing.x} {thing.y}"
    elif row.kind == "reason":
        said = asked.removeprefix("name the ")
        assert descriptions.phrases("reasoning")[said] == (row.answer,) and row.answer in here
    else:
        start = {"kind": "what kind of thing is the ", "colour": "what colour is the "}[row.kind]
        name, of_list = asked.removeprefix(start), {"kind": "category"}.get(row.kind, "colour")
        said = {"kind": row.answer}.get(row.kind, f"{row.answer} thing")
        assert name in here and name in descriptions.phrases(of_list)[said]


def test_descriptions_ask_for_no_place_of_two_steps(scenes):
    placed = {row.question for scene in scenes for row in scene.qa if row.kind in ("where", "find")}
    for said in descriptions.phrases("reasoning"):
        assert not any(said in question for question in placed)


def test_wording():
    objects = [questions.Placed("strawberry", 12, 30), questions.Placed("anchor", 20, 5)]
    rows = {kind: questions.row(kind, "en", objects) for kind in questions.ROWS_OF_ONE}
    assert rows["caption"].answer == "a strawberry and an anchor"
    assert rows["where"][2:] == ("Answer in en : where is the strawberry", "12 30")
    assert rows["what"][2:] == ("Answer in en : what is at 12 30", "strawberry")
    assert rows["list"][2:] == (
        "Answer in en : list every object",
        "12 30 strawberry 20 5 anchor",
    )
    assert questions.row("where", "es", objects).question == "Answer in es : where is the fresa"
    assert questions.row("caption", "de", objects).answer == "erdbeere und anker"
    with pytest.raises(ValueError, match="caption"):
        questions.row("captoin", "en", objects)


def test_the_named_object_is_drawn_at_its_place(monkeypatch):
    monkeypatch.setattr(backgrounds, "draw", lambda rng, size: render.board(size, (0, 255, 0)))
    monkeypatch.setattr(web, "TILT_RAD", 0.0)  # the outline of what is tilted has another middle
    single = [s for s in (web.web_scene((9, i), 128) for i in range(60)) if len(s.objects) == 1]
    assert len(single) > 10
    for scene in single:
        green = scene.image.astype(int)
        drawn = (green[..., 0] > 3) | (green[..., 2] > 3) | (green[..., 1] < 150)
        rows, columns = np.nonzero(drawn)
        x, y = (
            questions.LOCATION_GRID / 128 * (v.min() + v.max() + 1) / 2 for v in (columns, rows)
        )
        assert abs(x - scene.objects[0].x - 0.5) < 1.2 and abs(y - scene.objects[0].y - 0.5) < 1.2


def test_bad_input():
    with pytest.raises(ValueError, match="distinct objects"):
        [web.web_scene(i, names=("hammer",)) for i in range(20)]
    with pytest.raises(ValueError, match="within the picture"):
        questions.cell(1.2)
