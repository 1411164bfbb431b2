"""Eight virtual devices: parameters are really spread, and the loss is that of one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from rt2.models import variants
from rt2.models.build import Model
from rt2.train import sharding
from rt2.train.sharding import ShardingError
from rt2.train.step import StepSettings, init_state, train_step

MODEL = Model(variants.config("debug", vocab=256, dtype="float32", remat=False, image_size=0))
SETTINGS = StepSettings(
    model=MODEL, optimizer=optax.adamw(1e-3), sources=2, seed=0, brightness=0.1, contrast=0.1
)


def batches(steps):
    rng = np.random.default_rng(0)
    for _ in range(steps):
        target = rng.integers(3, 256, (16, 8)).astype(np.int32)
        target[::2, 3:] = 0
        yield {
            "image": rng.integers(0, 256, (16, 1, 64, 64, 3)).astype(np.uint8),
            "prefix": rng.integers(3, 256, (16, 6)).astype(np.int32),
            "target": target,
            "has_image": np.arange(16) != 3,
            "source": np.arange(16, dtype=np.int32) % 2,
        }


def run(sizes, devices, steps=10):
    """Losses, final state and shardings of a run on a mesh."""
    mesh = sharding.make_mesh(sizes, devices)
    key = jax.random.key(0)
    shapes = jax.eval_shape(functools.partial(init_state, SETTINGS), key)
    parameters = sharding.parameter_shardings(MODEL, "fsdp+tp", mesh)
    shardings = sharding.state_shardings(shapes, parameters, MODEL, mesh)
    with jax.set_mesh(mesh):
        state = jax.jit(functools.partial(init_state, SETTINGS), out_shardings=shardings)(key)
        step = jax.jit(functools.partial(train_step, SETTINGS), out_shardings=(shardings, None))
        losses = []
        for batch in batches(steps):
            placed = jax.device_put(batch, sharding.batch_sharding(mesh))
            state, metrics = step(state, placed)
            losses.append(float(metrics["loss"]))
    return losses, state


@pytest.fixture(scope="module")
def one_device():
    return run({"data": 1, "fsdp": 1, "tensor": 1}, jax.devices()[:1])


@pytest.fixture(scope="module")
def eight_devices():
    return run({"data": 2, "fsdp": 2, "tensor": 2}, jax.devices())


def test_ten_steps_on_eight_devices_equal_one(one_device, eight_devices):
    np.testing.assert_allclose(eight_devices[0], one_device[0], rtol=1e-5)
    assert one_device[0][-1] < one_device[0][0]


def test_parameters_and_moments_are_really_sharded(eight_devices):
    _, state = eight_devices
    moments = state.optimizer[0].mu
    for tree in (state.params, moments):
        kernel = tree["text/encoder/mlp/wide/kernel"]
        assert kernel.sharding.spec == PartitionSpec(None, "fsdp", "tensor")
        shard = kernel.addressable_shards[0].data
        assert shard.size * 4 == kernel.size
        embedding = tree["text/embedding"]
        assert embedding.addressable_shards[0].data.size * 4 == embedding.size
    # two devices that differ in "fsdp" alone hold different halves
    kernel = state.params["text/encoder/mlp/wide/kernel"]
    held = {s.device.id: s.index for s in kernel.addressable_shards}
    assert len({str(index) for index in held.values()}) == 4


def test_bytes_of_parameters_per_device_shrink(one_device, eight_devices):
    def bytes_on_first(params):
        return sum(x.addressable_shards[0].data.nbytes for x in params.values())

    whole, part = (bytes_on_first(state.params) for _, state in (one_device, eight_devices))
    assert part < 0.35 * whole


def test_initial_parameters_do_not_depend_on_the_mesh(one_device, eight_devices):
    one = run({"data": 1, "fsdp": 1, "tensor": 1}, jax.devices()[:1], steps=0)[1]
    many = run({"data": 1, "fsdp": 4, "tensor": 2}, jax.devices(), steps=0)[1]
    for path, array in one.params.items():
        np.testing.assert_array_equal(array, many.params[path], err_msg=path)


def test_minus_one_takes_what_is_left():
    mesh = sharding.make_mesh({"data": -1, "fsdp": 2, "tensor": 1}, jax.devices())
    assert dict(mesh.shape) == {"data": 4, "fsdp": 2, "tensor": 1}


@pytest.mark.parametrize(
    "sizes", [{"data": 3, "fsdp": 1, "tensor": 1}, {"data": -1, "fsdp": 3, "tensor": 1}]
)
def test_a_mesh_that_does_not_fit_says_so(sizes):
    with pytest.raises(ShardingError, match="8 devices"):
        sharding.make_mesh(sizes, jax.devices())


def test_an_unknown_axis_is_refused():
    with pytest.raises(ShardingError, match="expert"):
        sharding.make_mesh({"data": 1, "expert": 2})


def test_a_batch_that_does_not_divide_is_refused_with_the_next_that_does():
    mesh = sharding.make_mesh({"data": 4, "fsdp": 2, "tensor": 1}, jax.devices())
    with pytest.raises(ShardingError, match="batch_size=24"):
        sharding.check_batch(30, mesh)


def test_unknown_strategy_and_logical_axis_are_refused():
    mesh = sharding.make_mesh({"data": 8, "fsdp": 1, "tensor": 1}, jax.devices())
    with pytest.raises(ShardingError, match="zero"):
        sharding.parameter_shardings(MODEL, "zero", mesh)
    with pytest.raises(ShardingError, match="expert"):
        sharding._spec("x", ("expert",), (8,), sharding.STRATEGIES["fsdp"], mesh)


def test_every_parameter_of_the_small_model_is_covered():
    model = Model(variants.config("small", vocab=6000, dtype="bfloat16", remat=True, image_size=0))
    mesh = sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 2}, jax.devices())
    specs = sharding.parameter_shardings(model, "fsdp+tp", mesh)
    whole = sum(
        shape.size for path, shape in model.shapes.items() if specs[path].is_fully_replicated
    )
    assert whole < 0.01 * model.size


def test_scalars_follow_no_parameter():
    mesh = sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 2}, jax.devices())
    parameters = sharding.parameter_shardings(MODEL, "fsdp+tp", mesh)
    tree = {"count": jnp.zeros(()), "mu": {"text/embedding": MODEL.shapes["text/embedding"]}}
    placed = sharding.state_shardings(tree, parameters, MODEL, mesh)
    assert placed["count"].is_fully_replicated
    assert placed["mu"]["text/embedding"] == parameters["text/embedding"]
