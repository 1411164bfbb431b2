"""Fingerprints, and a checkpoint that is damaged, foreign or missing."""

import pathlib
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt2 import checkpoint
from rt2.checkpoint import CheckpointError, DamagedCheckpointError
from rt2.train.checkpoint import CheckpointWriter, abstract
from rt2.train.sharding import make_mesh
from rt2.train.step import TrainState

ASSETS = {
    "format": 1,
    "model": {"width": 8},
    "preprocess": {"tokenizer": "abc"},
    "data": {"seed": 0},
}


def make_state(step):
    rng = np.random.default_rng(step)
    params = {"a/kernel": jnp.asarray(rng.normal(size=(64, 32)), jnp.float32)}
    mean = jnp.asarray(rng.normal(size=(64, 32)), jnp.float32)
    moments = {"mu": {"a/kernel": mean}, "count": jnp.array(step)}
    return TrainState(jnp.array(step, jnp.int32), params, moments)


def target(state):
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return abstract(state, jax.tree.map(lambda _: one, state))


@pytest.fixture
def workdir(tmp_path):
    writer = CheckpointWriter(tmp_path, keep=3)
    for step in (5, 10):
        writer.save(make_state(step), ASSETS | {"step": step})
    writer.close()
    return tmp_path


def restore(workdir, assets=ASSETS, state=None):
    writer = CheckpointWriter(workdir, keep=3)
    found = writer.restore(target(state or make_state(0)), assets)
    writer.close()
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8", "bool"])
def test_any_single_bit_changes_the_fingerprint(dtype):
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 2 if dtype == "bool" else 256, 96).astype(np.uint8)
    make = (lambda b: b.astype(bool)) if dtype == "bool" else (lambda b: b.view(jnp.dtype(dtype)))
    before = checkpoint.fingerprint({"x": jnp.asarray(make(raw))})
    for bit in range(0, 96 * 8, 8 if dtype == "bool" else 5):
        flipped = raw.copy()
        flipped[bit // 8] ^= 1 << (bit % 8)
        assert checkpoint.fingerprint({"x": jnp.asarray(make(flipped))}) != before, bit


def test_swapped_elements_change_the_fingerprint():
    x = jnp.arange(100.0).reshape(10, 10)
    assert checkpoint.fingerprint({"x": x}) != checkpoint.fingerprint({"x": x.T})


def test_fingerprint_does_not_depend_on_the_sharding():
    x = jax.random.normal(jax.random.key(0), (16, 24))
    mesh = make_mesh({"data": 1, "fsdp": 4, "tensor": 2}, jax.devices())
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp", "tensor"))
    assert checkpoint.fingerprint({"x": x}) == checkpoint.fingerprint(
        {"x": jax.device_put(x, spread)}
    )


def test_restore_gives_back_the_bits(workdir):
    found = restore(workdir)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(make_state(10)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def flip(workdir, step, item, seed):
    """Flips one bit of a data file of an item."""
    files = [
        p
        for p in sorted((workdir / "checkpoints" / str(step) / item).rglob("*"))
        if p.is_file() and p.parent.name == "d" and p.stat().st_size > 1000
    ]
    path = files[seed % len(files)]
    data = bytearray(path.read_bytes())
    rng = random.Random(seed)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


@pytest.mark.parametrize("item", ["params", "state"])
def test_a_damaged_step_is_passed_over_for_the_one_before(workdir, item, caplog):
    flip(workdir, 10, item, seed=3)
    assert int(restore(workdir).step) == 5
    assert "Trying the step before it" in caplog.text


def test_flipped_bits_never_pass_unseen(workdir):
    files = [p for p in (workdir / "checkpoints/10/params").rglob("*") if p.is_file()]
    whole = {path: path.read_bytes() for path in files}
    good = make_state(10).params
    rng = random.Random(0)
    detected = 0
    for _ in range(40):
        path = rng.choice([p for p in files if whole[p]])
        data = bytearray(whole[path])
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            found = checkpoint.read_tree(
                workdir / "checkpoints/10", "params", target(make_state(0)).params
            )
            for name in good:
                np.testing.assert_array_equal(found[name], good[name])
        except DamagedCheckpointError:
            detected += 1
        path.write_bytes(whole[path])
    assert detected > 5


def test_all_steps_damaged_is_an_error(workdir):
    for step in (5, 10):
        flip(workdir, step, "params", seed=1)
    with pytest.raises(CheckpointError, match="none of the steps"):
        restore(workdir)


@pytest.mark.parametrize(
    "key, change, message",
    [
        ("model", {"width": 16}, "model.width: checkpoint 8, config 16"),
        ("preprocess", {"tokenizer": "abd"}, "preprocess.tokenizer"),
        ("data", {"seed": 1}, "data.seed"),
    ],
)
def test_another_run_is_refused_by_field(workdir, key, change, message):
    with pytest.raises(CheckpointError, match=message):
        restore(workdir, ASSETS | {key: change})


def test_another_shape_or_dtype_is_refused_and_never_cast(workdir):
    state = make_state(0)
    for changed in (jnp.zeros((64, 16)), jnp.zeros((64, 32), jnp.bfloat16)):
        other = state._replace(params={"a/kernel": changed})
        with pytest.raises(CheckpointError, match="a/kernel"):
            restore(workdir, state=other)


def test_no_checkpoint_is_a_clear_error(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        checkpoint.find(tmp_path)
    assert restore(tmp_path) is None


def test_find_takes_the_newest_of_a_workdir_or_one_step(workdir):
    assert checkpoint.find(workdir).name == "10"
    step = workdir / "checkpoints/5"
    assert checkpoint.find(step) == pathlib.Path(step)
