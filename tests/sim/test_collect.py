import hashlib
import json
import math
import subprocess
import sys
import tarfile

import cv2
import numpy as np
import pytest

from rt2.sim import (
    collect,
    demonstrations,
    jpeg,
    oracle,
    questions,
    render,
    shards,
    splits,
    tabletop,
    web,
)

SMALL = ["--episodes=6", "--val-episodes=2", "--scenes=24", "--val-scenes=5", "--tasks=reach,push"]


def run(out, *arguments):
    return collect.main([f"--out={out}", *SMALL, *arguments])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("data")
    assert run(out, "--workers=1") == 0
    return out


@pytest.fixture(scope="module")
def episodes(written):
    """Split -> episodes as TFDS reads them, steps as lists."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(written / "tabletop/1.0.0")
    return {
        split: [
            {**episode, "steps": list(episode["steps"])}
            for episode in tfds.as_numpy(builder.as_dataset(split=split))
        ]
        for split in ("train", "val")
    }


def test_the_episodes_are_rlds(episodes):
    assert [len(split) for split in episodes.values()] == [6, 2]
    for episode in episodes["train"] + episodes["val"]:
        steps = episode["steps"]
        assert [step["is_first"] for step in steps] == [True] + [False] * (len(steps) - 1)
        assert [step["is_last"] for step in steps] == [False] * (len(steps) - 1) + [True]
        assert steps[-1]["is_terminal"] and not steps[-1]["action"].any()
        assert steps[-2]["reward"] == 1 and sum(step["reward"] for step in steps) == 1
        assert steps[0]["observation"]["rgb"].shape == (64, 64, 3)
        assert len({step["instruction"] for step in steps}) == 1


def test_an_episode_is_the_oracles_on_that_seed(episodes):
    tasks = set()
    for episode in episodes["train"]:
        metadata, first = episode["episode_metadata"], episode["steps"][0]
        tasks.add(task := metadata["task"].decode())
        env = tabletop.TabletopEnv(task=task)
        observation, info = env.reset(seed=int(metadata["seed"]))
        assert info["target"] == metadata["target"].decode()
        cells = env.scene.positions[env.scene.target] / render.BOARD_M * questions.LOCATION_GRID
        assert metadata["place"].decode() == f"{int(cells[0])} {int(cells[1])}"
        assert observation["instruction"] == first["instruction"].decode()
        assert (observation["effector_position"] == first["observation"]["effector_position"]).all()
        assert (oracle.action(env.state) == first["action"]).all()
        seen = first["observation"]["rgb"].astype(int)
        assert np.abs(observation["rgb"].astype(int) - seen).mean() < 3  # JPEG
        assert set(env.scene.names) <= set(splits.SEEN_BY_ROBOT)
    assert tasks == {"reach", "push"}


def test_a_board_has_one_of_the_numbers_of_objects():
    made = [
        demonstrations.demonstrate(0, "train", i, "reach", objects=(3, 5), image_size=32)
        for i in range(8)
    ]
    assert {episode.num_objects for episode in made} == {3, 5}
    for episode in made:
        env = tabletop.TabletopEnv(image_size=32)
        env.reset(seed=episode.seed, options={"num_objects": episode.num_objects})
        assert env.scene.instruction == episode.instruction
        assert (oracle.action(env.state) == episode.steps[0].action).all()


def test_no_episode_is_another(episodes):
    seeds = [int(e["episode_metadata"]["seed"]) for split in episodes.values() for e in split]
    assert len(set(seeds)) == len(seeds)


def test_actions_are_recorded_clean_and_executed_disturbed(episodes):
    for episode in episodes["train"]:
        actions = np.array([step["action"] for step in episode["steps"][:-1]])
        positions = np.array([s["observation"]["effector_position"] for s in episode["steps"]])
        assert np.hypot(*actions.T).max() <= tabletop.MAX_STEP_M + 1e-6
        free = np.abs(np.diff(positions, axis=0) - actions)[:3]  # nothing is touched yet
        assert 0.004 < free.max() < 0.05


def test_the_shards_hold_the_scenes(written):
    with tarfile.open(written / "web/web-train-00000.tar") as tar:
        names = tar.getnames()
        assert len(names) == 2 * 24 and names[:2] == ["00000000.jpg", "00000000.json"]
        record = json.load(tar.extractfile("00000011.json"))
        data = np.frombuffer(tar.extractfile("00000011.jpg").read(), np.uint8)
    scene = web.web_scene((0, 0, 11))
    assert record["qa"] == [row._asdict() for row in scene.qa]
    assert record["objects"] == [thing._asdict() for thing in scene.objects]
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB).astype(int)
    assert np.abs(image - scene.image).mean() < 4


def test_the_questions_are_in_vqa_form(written):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(written / "web_vqa/1.0.0")
    records = list(tfds.as_numpy(builder.as_dataset(split="validation")))
    asked = [row for i in range(5) for row in shards.scene(0, "validation", i, 64).qa]
    assert builder.info.splits["train"].num_examples > 24
    assert len(records) == len({record["question_id"] for record in records}) == len(asked)
    for record in records:
        assert record["image"].shape == (64, 64, 3)
        answers = {answer.decode() for answer in record["answers"]}
        assert answers == {record["top_answer"].decode()}
        image_id, number = divmod(int(record["question_id"]), 1000)
        row = shards.scene(0, "validation", image_id, 64).qa[number]
        assert row == tuple(
            text.decode()
            for text in (
                *(record["question_type"], record["answer_type"]),
                *(record["question_text"], record["top_answer"]),
            )
        )


def test_the_web_is_described_and_full_on_demand(tmp_path):
    assert run(tmp_path, "--workers=1", "--descriptions", "--web-objects=6") == 0
    with tarfile.open(tmp_path / "web/web-train-00000.tar") as tar:
        read = [json.load(tar.extractfile(f"{i:08d}.json")) for i in range(24)]
    scenes = [web.web_scene((0, 0, i), descriptions=True, objects=6) for i in range(24)]
    assert max(len(scene.objects) for scene in scenes) > web.DEFAULT_OBJECTS
    assert [one["qa"] for one in read] == [[row._asdict() for row in s.qa] for s in scenes]
    assert {row.kind for scene in scenes for row in scene.qa} >= {"find", "kind"}


def test_validation_scenes_are_others_than_training_scenes():
    train, validation = (shards.scene(0, split, 0, 64) for split in ("train", "validation"))
    assert (train.image != validation.image).any()


def digests(out):
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def test_the_number_of_workers_and_an_interruption_change_nothing(written, tmp_path):
    (tmp_path / "tabletop").mkdir()  # what a run killed while it moved its results leaves
    (tmp_path / ".collecting/web").mkdir(parents=True)
    assert run(tmp_path, "--workers=2") == 0
    assert digests(tmp_path) == digests(written)


def test_a_complete_set_is_left_alone(written, capsys):
    before = digests(written)
    assert run(written) == 0
    assert "already there" in capsys.readouterr().out
    assert run(written, "--seed=1") == 1
    error = capsys.readouterr().err
    assert "seed=0" in error and "seed=1" in error and "--out" in error
    assert digests(written) == before


def test_changed_splits_are_other_data(written, capsys, monkeypatch):
    monkeypatch.setattr(splits, "load", lambda: splits.Splits(("hammer",), ("fox",), ()))
    assert run(written) == 1
    assert "splits=" in capsys.readouterr().err


def test_foreign_files_are_not_touched(tmp_path, capsys):
    (tmp_path / "web").mkdir()
    (tmp_path / "web/mine.txt").write_text("keep")
    assert run(tmp_path) == 1
    assert "not written by this command" in capsys.readouterr().err
    assert (tmp_path / "web/mine.txt").read_text() == "keep"


def test_a_broken_marker_is_named(tmp_path, capsys):
    (tmp_path / "collect.json").write_text("{")
    assert run(tmp_path) == 1
    assert "collect.json is not JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--tasks=rech", "reach, push"),
        ("--objects=3,6", "2 to 5 objects"),
        ("--episodes=0", "at least 1"),
        ("--scenes=-3", "whole number"),
        ("--image-size=8", "at least 32"),
        ("--seed=x", "whole number"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, capsys, argument, message):
    with pytest.raises(SystemExit):
        run(tmp_path, argument)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_only_the_writer_imports_tensorflow():
    program = (
        "import sys; from rt2.sim import collect, corpora, tabletop, web;"
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_jpeg_keeps_colour_edges():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2] = (255, 0, 0)
    decoded = cv2.imdecode(np.frombuffer(jpeg.encode(image), np.uint8), cv2.IMREAD_COLOR_RGB)
    error = np.abs(decoded.astype(int) - image).mean()
    assert error < 5 and math.isfinite(error)
