"""The RT-1-like baseline of experiments/transfer."""

import runpy

import jax
import numpy as np
import pytest
from flax import nnx


@pytest.fixture(scope="module")
def rt1(project):
    return runpy.run_path(str(project / "experiments" / "transfer" / "rt1.py"))


@pytest.fixture
def model(rt1):
    return rt1["Rt1"](16, 1, 20, (2, 21), nnx.Rngs(0))


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
