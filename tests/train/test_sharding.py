"""Eight virtual devices: parameters are really spread, and the loss is that of one device."""

import dataclasses
import functools
import logging
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from rt2.models import variants
from rt2.models.build import Model
from rt2.train import sharding
from rt2.train.adafactor import adafactor
from rt2.train.sharding import ShardingError
from rt2.train.step import StepSettings, init_state, train_step

MODEL = Model(variants.config("debug", vocab=256, dtype="float32", remat="none", image_size=0))
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


FACTORED = dataclasses.replace(SETTINGS, optimizer=adafactor(MODEL, lambda step: 1e-2, 16))


def run(sizes, devices, steps=10, settings=SETTINGS):
    """Losses and final state of a run on a mesh."""
    mesh = sharding.make_mesh(sizes, devices)
    make = functools.partial(init_state, settings)
    _, shardings = sharding.lay_out(make, MODEL, "fsdp+tp", mesh)
    with jax.set_mesh(mesh):
        state = jax.jit(make, out_shardings=shardings)(jax.random.key(0))
        step = jax.jit(functools.partial(train_step, settings), out_shardings=(shardings, None))
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
        sharding.check_batch(30, mesh, 1)


def test_unknown_strategy_and_logical_axis_are_refused():
    mesh = sharding.make_mesh({"data": 8, "fsdp": 1, "tensor": 1}, jax.devices())
    with pytest.raises(ShardingError, match="zero"):
        sharding.parameter_shardings(MODEL, "zero", mesh)
    with pytest.raises(ShardingError, match="expert"):
        sharding._spec("x", ("expert",), (8,), sharding.STRATEGIES["fsdp"], mesh)


def test_every_parameter_of_the_small_model_is_covered():
    model = Model(
        variants.config("small", vocab=6000, dtype="bfloat16", remat="full", image_size=0)
    )
    mesh = sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 2}, jax.devices())
    specs = sharding.parameter_shardings(model, "fsdp+tp", mesh)
    whole = sum(
        shape.size for path, shape in model.shapes.items() if specs[path].is_fully_replicated
    )
    assert whole < 0.01 * model.size


def factored_update(sizes, devices):
    """Updates and Adafactor's state after two updates on a mesh."""
    mesh = sharding.make_mesh(sizes, devices)
    _, shardings = sharding.lay_out(functools.partial(init_state, FACTORED), MODEL, "fsdp+tp", mesh)
    rng = np.random.default_rng(0)
    params, *grads = (
        {path: rng.normal(size=x.shape).astype(np.float32) for path, x in MODEL.shapes.items()}
        for _ in range(3)
    )
    params = jax.device_put(params, shardings.params)
    state = jax.jit(FACTORED.optimizer.init, out_shardings=shardings.optimizer)(params)
    update = jax.jit(
        FACTORED.optimizer.update, out_shardings=(shardings.params, shardings.optimizer)
    )
    for grad in grads:
        updates, state = update(jax.device_put(grad, shardings.params), state, params)
    return updates, state


def test_factored_moments_take_the_axes_that_they_keep():
    one = factored_update({"data": 1, "fsdp": 1, "tensor": 1}, jax.devices()[:1])
    many = factored_update({"data": 2, "fsdp": 2, "tensor": 2}, jax.devices())
    factored = many[1]
    kernel = "text/encoder/mlp/wide/kernel"  # layers 2, embed 32, mlp 64
    assert factored.v_row[kernel].shape == (2, 32, 1)
    assert factored.v_row[kernel].sharding.spec == PartitionSpec(None, "fsdp", None)
    assert factored.v_col[kernel].shape == (2, 1, 64)
    assert factored.v_col[kernel].sharding.spec == PartitionSpec(None, None, "tensor")
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def large_model():
    """The shapes of PaLI-X: ViT-22B and 50 + 50 layers of 4096."""
    small = variants.config("small", vocab=250_112, dtype="bfloat16", remat="full", image_size=0)
    vision = dict(width=6144, depth=48, mlp=24576, heads=48, patch=14, image_size=224, stem=())
    text = dict(width=4096, mlp=16384, heads=32, head_dim=128, encoder_layers=50, decoder_layers=50)
    return Model(
        dataclasses.replace(
            small,
            vision=dataclasses.replace(small.vision, **vision),
            text=dataclasses.replace(small.text, **text),
        )
    )


def held_bytes(shapes, placed):
    """Bytes of float32 that one device holds."""
    pairs = zip(jax.tree.leaves(shapes), jax.tree.leaves(placed), strict=True)
    return 4 * sum(math.prod(where.shard_shape(x.shape)) for x, where in pairs)


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp+tp"])
def test_at_55b_every_chip_holds_its_part_and_what_stays_whole_is_told_once(strategy, caplog):
    caplog.set_level(logging.INFO)
    model = large_model()
    settings = dataclasses.replace(
        SETTINGS, model=model, optimizer=adafactor(model, lambda step: 1e-2)
    )
    mesh = AbstractMesh((1, 16, 4), sharding.MESH_AXES)
    make = functools.partial(init_state, settings)
    shapes, placed = sharding.lay_out(make, model, strategy, mesh)
    parts = {"fsdp": 16, "fsdp+tp": 64}[strategy]
    assert held_bytes(shapes.params, placed.params) < 1.01 * 4 * model.size / parts
    # whole, the factored moments are 600 MB; over fsdp alone those of every other axis stay whole
    assert held_bytes(shapes.optimizer, placed.optimizer) < {16: 70e6, 64: 27e6}[parts]
    said = [m for m in caplog.messages if "stay whole on every device" in m]
    assert len(said) == 1 and "bias'] " in said[0]


def test_scalars_follow_no_parameter():
    mesh = sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 2}, jax.devices())
    parameters = sharding.parameter_shardings(MODEL, "fsdp+tp", mesh)
    tree = {"count": jnp.zeros(()), "mu": {"text/embedding": MODEL.shapes["text/embedding"]}}
    placed = sharding.state_shardings(tree, parameters, MODEL, mesh)
    assert placed["count"].is_fully_replicated
    assert placed["mu"]["text/embedding"] == parameters["text/embedding"]


class Chip:
    """A TPU of a torus, as far as its place tells."""

    platform, device_kind, core_on_chip, slice_index = "tpu", "TPU v4", 0, 0

    def __init__(self, coords):
        self.coords = coords


def test_an_axis_of_a_torus_takes_whole_sides():
    by_host = [(2 * a + x, 2 * b + y, z) for z, b, a, y, x in np.ndindex(4, 2, 2, 2, 2)]
    placed = sharding.arranged([Chip(place) for place in by_host], (1, 16, 4))
    for group in placed[0]:
        sides = [len(set(along)) for along in zip(*(chip.coords for chip in group), strict=True)]
        assert sorted(sides) == [1, 1, 4]
    assert {chip.coords for chip in placed.flat} == set(by_host)
