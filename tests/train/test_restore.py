"""A checkpoint of eight devices comes back on four, two, one and many again, to the bit."""

import jax
import numpy as np
import optax
import pytest

from rt2 import checkpoint
from rt2.models import variants
from rt2.models.build import Model
from rt2.train import sharding
from rt2.train.checkpoint import CheckpointWriter, abstract
from rt2.train.step import TrainState

ASSETS = {"format": 1, "model": {}, "preprocess": {}, "data": {}}
MODEL = Model(variants.config("debug", vocab=256, dtype="float32", remat="none", image_size=0))
PATHS = (
    "text/embedding",
    "text/encoder/mlp/wide/kernel",
    "vision/blocks/attention/out/kernel",
    "vision/blocks/mlp/wide/bias",
    "vision/norm/scale",
)


def host_state():
    """A state of random bits, with factored moments."""
    rng = np.random.default_rng(0)
    draw = lambda x: rng.normal(size=x.shape).astype(x.dtype)  # noqa: E731
    params = {path: draw(MODEL.shapes[path]) for path in PATHS}
    moments = optax.scale_by_factored_rms(min_dim_size_to_factor=16).init(params)
    return TrainState(np.int32(5), params, jax.tree.map(draw, moments))


def placed(state, devices):
    """The shardings of `state` on a mesh of the first `devices`."""
    tensor = min(devices, 2)
    sizes = {"data": 1, "fsdp": devices // tensor, "tensor": tensor}
    mesh = sharding.make_mesh(sizes, jax.devices()[:devices])
    parameters = sharding.parameter_shardings(MODEL, "fsdp+tp", mesh)
    return sharding.state_shardings(state, parameters, MODEL, mesh)


def save(state, workdir):
    writer = CheckpointWriter(workdir, keep=1)
    writer.save(state, ASSETS)
    writer.close()


def test_down_to_one_device_and_back(tmp_path):
    original = host_state()
    state = jax.device_put(original, placed(original, 8))
    for hop, devices in enumerate((4, 2, 1, 2, 4, 8)):
        workdir = tmp_path / str(hop)
        save(state, workdir)
        writer = CheckpointWriter(workdir, keep=1)
        state = writer.restore(abstract(original, placed(original, devices)), ASSETS)
        writer.close()
        kernel = state.params["text/encoder/mlp/wide/kernel"]
        assert len(kernel.addressable_shards) == devices
        assert kernel.addressable_shards[0].data.size * devices == kernel.size
        for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(original), strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def test_a_process_that_cannot_read_its_part_speaks_for_all(tmp_path, monkeypatch):
    """Among several processes one may meet damage that the others do not see."""
    original = host_state()
    state = jax.device_put(original, placed(original, 2))
    save(state, tmp_path)
    folder = checkpoint.find(tmp_path)
    target = abstract(original, placed(original, 2)).params
    assert checkpoint.read_tree(folder, "params", target)
    asked = []
    monkeypatch.setattr(checkpoint, "_everywhere", lambda good: asked.append(good) or False)
    with pytest.raises(checkpoint.DamagedCheckpointError, match="another process"):
        checkpoint.read_tree(folder, "params", target)
    assert asked == [True]
