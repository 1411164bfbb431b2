"""The pure step: its loss against a plain formula, non-finite steps, augmentation."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rt2.models import variants
from rt2.models.build import Model
from rt2.train import step as training
from rt2.train.step import StepSettings, TrainState, init_state, train_step

MODEL = Model(variants.config("debug", vocab=256, dtype="float32", remat="none", image_size=0))


def settings(**changes):
    values = dict(
        model=MODEL, optimizer=optax.adamw(1e-3), sources=2, seed=0, brightness=0.0, contrast=0.0
    )
    return StepSettings(**values | changes)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    target = rng.integers(3, 256, (8, 10)).astype(np.int32)
    target[np.arange(10)[None] >= rng.integers(1, 11, 8)[:, None]] = 0
    rows = {
        "image": rng.integers(0, 256, (8, 1, 64, 64, 3)).astype(np.uint8),
        "prefix": rng.integers(3, 256, (8, 7)).astype(np.int32),
        "target": target,
        "has_image": np.arange(8) != 3,
        "source": np.arange(8, dtype=np.int32) % 2,
    }
    return {name: jnp.asarray(array) for name, array in rows.items()}


@pytest.fixture(scope="module")
def state():
    return jax.jit(lambda key: init_state(settings(), key))(jax.random.key(0))


@pytest.mark.parametrize("chunk", [1000, 16, 7])
def test_loss_is_the_mean_over_real_tokens(state, batch, chunk, monkeypatch):
    monkeypatch.setattr(training, "CHUNK", chunk)

    def plain(params):
        logits = MODEL.module(params)(
            *(batch[name] for name in ("image", "prefix", "target", "has_image"))
        )
        entropy = -jax.nn.log_softmax(logits)
        entropy = jnp.take_along_axis(entropy, batch["target"][..., None], 2)[..., 0]
        real = batch["target"] != 0
        return (entropy * real).sum() / real.sum()

    wanted, wanted_grads = jax.jit(jax.value_and_grad(plain))(state.params)
    found, grads = jax.jit(jax.value_and_grad(lambda p: training.loss(settings(), p, batch)[0]))(
        state.params
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    for path, grad in grads.items():
        np.testing.assert_allclose(grad, wanted_grads[path], atol=1e-7, err_msg=path)


def test_sums_by_source_count_every_real_token(state, batch):
    _, sums = training.loss(settings(), state.params, batch)
    real = np.asarray(batch["target"] != 0).sum(1)
    np.testing.assert_array_equal(sums["tokens"], [real[::2].sum(), real[1::2].sum()])


def test_a_step_learns(state, batch):
    step = jax.jit(lambda s: train_step(settings(), s, batch))
    first = last = None
    now = state
    for _ in range(8):
        now, metrics = step(now)
        first, last = first or metrics["loss"], metrics["loss"]
    assert last < first and int(now.step) == 8


def test_frozen_parameters_stay_and_have_no_moments(batch):
    frozen = settings(frozen=("vision/", "text/embedding"))
    before = jax.jit(lambda key: init_state(frozen, key))(jax.random.key(0))
    after, _ = jax.jit(lambda s: train_step(frozen, s, batch))(before)
    changed = {p for p, x in before.params.items() if not jnp.array_equal(x, after.params[p])}
    assert changed == {p for p in before.params if not p.startswith(frozen.frozen)} != set()
    moments = before.optimizer[0].mu
    assert set(moments) == {p for p in before.params if not p.startswith(frozen.frozen)}


def test_a_step_that_is_not_finite_changes_nothing_but_the_count(state, batch):
    poisoned = {p: x.at[(0,) * x.ndim].set(jnp.nan) for p, x in state.params.items()}
    bad = TrainState(state.step, poisoned, state.optimizer)
    after, metrics = jax.jit(lambda s: train_step(settings(), s, batch))(bad)
    assert bool(metrics["skipped"]) and int(after.step) == 1
    for path in poisoned:
        np.testing.assert_array_equal(after.params[path], poisoned[path])
    for old, new in zip(
        jax.tree.leaves(bad.optimizer), jax.tree.leaves(after.optimizer), strict=True
    ):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_parts_are_one_batch(state, batch, parts):
    def found(settings):
        return jax.jit(lambda p: training.gradients(settings, p, batch))(state.params)

    one, many = (found(settings(accumulate=n)) for n in (1, parts))
    np.testing.assert_allclose(many[0][0], one[0][0], rtol=1e-6)
    np.testing.assert_array_equal(many[0][1]["tokens"], one[0][1]["tokens"])
    for path, grad in one[1].items():
        np.testing.assert_allclose(many[1][path], grad, atol=1e-6, err_msg=path)


def test_a_spike_is_skipped_and_a_norm_that_stays_high_becomes_usual():
    spike, usual = training.follow_norm(3.0, jnp.zeros(()), jnp.float32(2.0))
    assert not spike and usual == 2.0
    spike, after = training.follow_norm(3.0, usual, jnp.float32(100.0))
    assert spike and 2.0 < after <= 2.0 + training.NORM_SPEED * 4.0 + 1e-6
    assert not training.follow_norm(3.0, usual, jnp.float32(5.9))[0]
    assert training.follow_norm(3.0, usual, jnp.float32(jnp.nan))[1] == usual
    spikes = []
    for _ in range(300):
        spike, usual = training.follow_norm(3.0, usual, jnp.float32(100.0))
        spikes.append(bool(spike))
    assert all(spikes[:100]) and not any(spikes[-50:])


def test_a_skipped_spike_changes_no_parameter_and_the_average_follows_the_others(batch):
    averaged = settings(skip_above=3.0, ema=0.75)
    before = jax.jit(lambda key: init_state(averaged, key))(jax.random.key(0))
    step = jax.jit(lambda s: train_step(averaged, s, batch))
    after, metrics = step(before)
    assert not metrics["skipped"]
    for path, mean in after.averages["params"].items():
        wanted = 0.75 * before.params[path] + 0.25 * after.params[path]
        np.testing.assert_allclose(mean, wanted, atol=1e-6, err_msg=path)
    quiet = after._replace(averages={**after.averages, "norm": jnp.float32(1e-6)})
    skipped, metrics = step(quiet)
    assert metrics["skipped"] and skipped.averages["norm"] > 1e-6
    for path, x in after.params.items():
        np.testing.assert_array_equal(skipped.params[path], x)
        np.testing.assert_array_equal(
            skipped.averages["params"][path], after.averages["params"][path]
        )


def test_the_average_changes_places_with_the_parameters_and_back(batch):
    averaged = settings(ema=0.5, frozen=("vision/",))
    state = jax.jit(lambda key: init_state(averaged, key))(jax.random.key(0))
    state = jax.jit(lambda s: train_step(averaged, s, batch))(state)[0]
    swapped = training.exchange_average(state)
    path = "text/embedding"
    np.testing.assert_array_equal(swapped.params[path], state.averages["params"][path])
    assert not np.array_equal(swapped.params[path], state.params[path])
    back = training.exchange_average(swapped)
    jax.tree.map(np.testing.assert_array_equal, back, state)


def backward_loops(settings_, batch):
    """Lengths of the loops over layers that run backwards in a step."""
    state = jax.eval_shape(lambda key: init_state(settings_, key), jax.random.key(0))
    program = jax.make_jaxpr(lambda s, b: train_step(settings_, s, b))(state, batch)
    loops = r"length=(\d+)\s+num_carry=\d+\s+num_consts=\d+\s+reverse=True"
    return re.findall(loops, str(program))


def test_the_backward_pass_of_a_frozen_tower_is_not_in_the_program(batch):
    config = MODEL.config
    vision = dataclasses.replace(config.vision, depth=3)  # the text has 2 layers
    model = Model(dataclasses.replace(config, vision=vision))
    assert "3" in backward_loops(settings(model=model), batch)
    found = backward_loops(settings(model=model, frozen=("vision/", "projection/")), batch)
    assert "3" not in found and "2" in found


def test_augmentation_is_a_function_of_key_and_row(batch):
    image, keys = batch["image"], jax.random.split(jax.random.key(5))
    one = training.augment(image, keys[0], 0.2, 0.3)
    np.testing.assert_array_equal(one, training.augment(image, keys[0], 0.2, 0.3))
    assert (np.asarray(one) != np.asarray(training.augment(image, keys[1], 0.2, 0.3))).any()
    same = jnp.broadcast_to(image[:1], image.shape)
    rows = np.asarray(training.augment(same, keys[0], 0.2, 0.3))
    assert (rows[0] != rows[1]).any()
    np.testing.assert_array_equal(training.augment(image, keys[0], 0.0, 0.0), image)


def test_every_step_augments_anew(state, batch):
    step = jax.jit(functools.partial(train_step, settings(brightness=0.5, contrast=0.5)))
    losses = [step(state._replace(step=jnp.int32(n)), batch)[1]["loss"] for n in (5, 5, 6)]
    assert losses[0] == losses[1] != losses[2]


def test_what_is_loaded_is_where_the_average_starts():
    averaged = settings(ema=0.9)
    state = jax.jit(lambda key: init_state(averaged, key))(jax.random.key(0))
    loaded = {"text/embedding": 2 * state.params["text/embedding"]}
    started = training.start_from(state, loaded)
    for path, average in started.averages["params"].items():
        np.testing.assert_array_equal(average, started.params[path])
        np.testing.assert_array_equal(average, loaded.get(path, state.params[path]))
