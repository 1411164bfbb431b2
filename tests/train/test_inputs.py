"""From the fields of a config's sources to rows: tasks, answers, text without an image, bounds."""

import json

import jax
import numpy as np
import pytest

from configs import common
from rt2.data.errors import DataError
from rt2.data.mixture import Draw
from rt2.evaluate import actions
from rt2.models import variants
from rt2.models.build import Model
from rt2.train import inputs, start
from rt2.train.sources import open_sources

TEXT = "the quick brown fox jumps over the lazy dog and runs far away into the wood"

SPEC = dict(  # of a data set that the package does not know; without its bounds
    camera="observation/rgb",
    instruction="instruction",
    action="action",
    action_spec="language_table",
    state=None,
    drop_first=False,
    drop_last="always",
    terminate="never",
    empty_instruction="refuse",
)


@pytest.fixture
def config(data_dir, tmp_path):
    config = common.get_config()
    config.model.variant = "debug"
    config.batch_size = 8
    config.tokenizer.vocab_size, config.tokenizer.sentinels = 1600, 10
    config.prefix_length = config.target_length = 64
    config.sources.robot = common.source(
        "robot", str(data_dir / "tabletop/1.0.0"), split="train", spec="tabletop", share=1.0
    )
    return config


@pytest.fixture
def text_only(tmp_path):
    """A jsonl of texts without an image."""
    file = tmp_path / "text.jsonl"
    file.write_text("".join(json.dumps({"text": f"{TEXT} {n}"}) + "\n" for n in range(6)))
    return str(file)


def prepared(config, tmp_path):
    sources = open_sources(config, "sources")
    preprocess = start.make_preprocess(config, sources, tmp_path)
    inputs.check_lengths(sources, preprocess, 100)
    return sources, preprocess


def test_a_source_for_each_task(config, tmp_path):
    config.history = 2
    for task in ("instruction", "success", "plan"):
        row = config.sources.robot.copy_and_resolve_references()
        row.task, row.plan = task, "reach for it, {instruction}" if task == "plan" else ""
        config.sources[task] = row
    sources, preprocess = prepared(config, tmp_path)
    batch = inputs.make_mixture(config, sources, preprocess).batch(0)
    assert batch["image"].shape[:2] == (8, 2)
    said = {
        name: preprocess.tokenizer.decode(batch["prefix"][list(batch["source"]).index(i)])
        for i, name in enumerate(sources)
    }
    assert said["robot"].startswith("Q: what action should")
    assert said["instruction"] == "Q: what instruction does the robot follow? A:"
    assert said["success"].startswith("Q: does the robot succeed to")
    assert said["plan"].startswith("Instruction: ")


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("task", "succes", "did you mean 'success'"),
        ("task", "success", "shows 2 images: set --config.history=2"),
        ("task", "plan", "plans belong to the task plan"),
    ],
)
def test_a_task_that_cannot_be(config, field, value, words):
    config.sources.robot[field] = value
    with pytest.raises(DataError, match=words):
        open_sources(config, "sources")


def test_only_actions_are_evaluated(config):
    config.history = 2
    config.eval_sources.robot = config.sources.robot.copy_and_resolve_references()
    config.eval_sources.robot.task = "success"
    with pytest.raises(DataError, match="eval_sources.robot.task='success': only the task action"):
        open_sources(config, "eval_sources")


def test_rows_of_several_cameras(config, tmp_path):
    config.dataset_specs.twice = SPEC | {"cameras": "observation/rgb", "bounds": "min_max"}
    config.sources.robot.spec, config.cameras = "twice", ("front", "wrist")
    with pytest.raises(DataError, match=r"sources.robot.cameras=\(\): .*\('wrist',\)"):
        open_sources(config, "sources")
    config.sources.robot.cameras = ("observation/rgb",)
    sources, preprocess = prepared(config, tmp_path)
    batch = inputs.make_mixture(config, sources, preprocess).batch(0)
    assert batch["image"].shape[1] == preprocess.images == 2
    np.testing.assert_array_equal(batch["image"][:, 0], batch["image"][:, 1])
    example = sources["robot"].examples[0]
    sent = actions.observation(example, "twice", preprocess.cameras)["image"]
    shown = sources["robot"].task[0].images
    np.testing.assert_array_equal(preprocess.frames(sent), shown)


def test_bounds_of_another_projects_statistics(config, tmp_path):
    file = tmp_path / "dataset_statistics.json"
    row = {"mean": [0, 0], "std": [1, 1], "min": [-1, -2], "max": [1, 2], "q01": [-0.5, -0.6]}
    file.write_text(json.dumps({"mine": {"action": row | {"q99": [0.7, 0.8]}}}))
    config.dataset_specs.mine = SPEC | {"bounds": "q01_q99"}
    config.sources.robot.spec, config.sources.robot.statistics = "mine", str(file)
    codec = inputs.fit_codecs(open_sources(config, "sources"))["mine"]
    assert (codec.low, codec.high) == ((-0.5, -0.6), (0.7, 0.8))


def test_text_without_an_image_is_corrupted_anew_each_epoch(config, text_only, tmp_path):
    config.sources.text = common.source(
        "web", text_only, split="", spec="", share=1.0, text_only="keep"
    )
    sources, preprocess = prepared(config, tmp_path)
    mixture = inputs.make_mixture(config, sources, preprocess)
    batch = mixture.batch(0)
    np.testing.assert_array_equal(batch["has_image"], batch["source"] == 0)
    make = inputs.row_maker(config, sources["text"], preprocess)
    first, again, later = (
        make(sources["text"].rows[2], Draw("text", 2, epoch)) for epoch in (0, 0, 1)
    )
    np.testing.assert_array_equal(first["prefix"], again["prefix"])
    assert (first["prefix"] != later["prefix"]).any()
    tokens, hidden = preprocess.tokenizer.encode(f"{TEXT} 2"), first["target"]
    spans = preprocess.tokenizer.sentinels
    kept = [t for t in first["prefix"] if t and t not in spans]
    assert sorted(kept + [t for t in hidden if t > 1 and t not in spans]) == sorted(tokens)


def test_nothing_looks_at_an_image_that_is_not_there():
    model = Model(variants.config("debug", vocab=64, dtype="float32", remat="none", image_size=0))
    params = model.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    prefix, target = (rng.integers(3, 64, (2, n)).astype(np.int32) for n in (5, 4))
    has_image = np.array([True, False])
    black, noise = np.zeros((2, 1, 64, 64, 3), np.uint8), rng.integers(0, 256, (2, 1, 64, 64, 3))
    one, other = (
        np.asarray(model.module(params)(image.astype(np.uint8), prefix, target, has_image))
        for image in (black, noise)
    )
    np.testing.assert_array_equal(one[1], other[1])
    assert np.abs(one[0] - other[0]).max() > 1e-3


def test_a_misspelt_rule_of_answers(config, text_only):
    config.sources.text = common.source(
        "web", text_only, split="", spec="", share=1.0, text_only="keep", answer="frequnt"
    )
    with pytest.raises(DataError, match="did you mean 'frequent'"):
        open_sources(config, "sources")


def test_a_misspelt_field_of_a_source():
    with pytest.raises(KeyError, match="anser"):
        common.source("web", "x", split="", spec="", share=1.0, anser="first")
