"""The pure step: its loss against a plain formula, non-finite steps, augmentation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rt2.models import variants
from rt2.models.build import Model
from rt2.train import step as training
from rt2.train.step import StepSettings, TrainState, init_state, train_step

MODEL = Model(variants.config("debug", vocab=256, dtype="float32", remat=False, image_size=0))


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


def test_augmentation_is_a_function_of_seed_step_and_row(batch):
    wide = settings(brightness=0.2, contrast=0.3)
    image = batch["image"]
    one = training.augment(wide, jnp.int32(5), image)
    np.testing.assert_array_equal(one, training.augment(wide, jnp.int32(5), image))
    assert (np.asarray(one) != np.asarray(training.augment(wide, jnp.int32(6), image))).any()
    same = jnp.broadcast_to(image[:1], image.shape)
    rows = np.asarray(training.augment(wide, jnp.int32(5), same))
    assert (rows[0] != rows[1]).any()
    np.testing.assert_array_equal(training.augment(settings(), jnp.int32(5), image), image)
