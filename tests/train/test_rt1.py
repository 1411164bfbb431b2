"""The RT-1-like baseline of experiments/transfer."""

import importlib.util
import itertools

import jax
import numpy as np
import pytest
from flax import nnx

from configs import debug, tabletop


@pytest.fixture(scope="module")
def rt1(project):
    path = project / "experiments" / "transfer" / "rt1.py"
    spec = importlib.util.spec_from_file_location("rt1", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(rt1):
    return rt1.Rt1(16, 1, 20, (2, 21), nnx.Rngs(0))


def batch(rows):
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (rows, 1, 16, 16, 3), np.uint8),
        "prefix": rng.integers(1, 20, (rows, 4)).astype(np.int32),
        "bins": np.stack([rng.integers(0, 2, rows), rng.integers(0, 21, rows)], 1),
    }


def test_the_instruction_changes_nothing_before_training(model):
    # FiLM begins as the identity: the words are all that differs
    given = batch(2)
    same = np.repeat(given["image"][:1], 2, 0)
    first, second = model(same, given["prefix"])
    np.testing.assert_array_equal(first, second)


def test_values_beyond_a_slots_bins_are_never_likely(model):
    shares = jax.nn.softmax(model(batch(2)["image"], batch(2)["prefix"]))
    assert shares.shape == (2, 2, 256)
    assert not shares[:, 0, 2:].any() and not shares[:, 1, 21:].any()


def test_it_learns_what_words_and_pictures_say(rt1, model):
    given = batch(8)
    optimizer = rt1.make_optimizer(model, tabletop.get_config().optimizer, 60)
    steps = list(rt1.fit(model, optimizer, [given] * 60, (0.0, 0.0)))
    assert steps[0] < 0.6 and steps[-1] == 1.0


def test_training_goes_on_from_its_checkpoint(rt1, data_dir, tmp_path, monkeypatch):
    config = debug.get_config()
    config.num_steps, config.batch_size, config.sources.web.share = 3, 4, 0.0
    config.sources.tabletop.path = str(data_dir / "tabletop/1.0.0")
    config.sources.web.path = str(data_dir / "web/web-train-*.tar")
    monkeypatch.setattr(rt1, "SAVE_INTERVAL", 1)
    whole = rt1.train(config, tmp_path / "whole", 0)
    fit = rt1.fit
    monkeypatch.setattr(rt1, "fit", lambda *args: itertools.islice(fit(*args), 2))
    rt1.train(config, tmp_path / "parts", 0)
    monkeypatch.setattr(rt1, "fit", fit)
    resumed = rt1.train(config, tmp_path / "parts", 0)
    pairs = zip(*(jax.tree.leaves(nnx.state(p.model)) for p in (whole, resumed)), strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one, other)
    example = {"image": np.zeros((64, 64, 3), np.uint8), "instruction": "move to the key"}
    [reply] = resumed.infer_batch([example])
    assert reply["actions"].shape == (1, 2) and not reply["terminate"]
