"""The training step: a pure function of state and batch.

Shapes: B rows, n images, S image size, L prefix, T target, K sources.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rt2.models.build import Model, Params
from rt2.tokenizer import PAD

Batch = dict[str, jax.Array]
"""image uint8 [B, n, S, S, 3]; prefix int32 [B, L]; target int32 [B, T]; source int32 [B]."""


class TrainState(NamedTuple):
    """All that a step changes."""

    step: jax.Array  # int32 []
    params: Params
    optimizer: Any


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """What a step needs beside its state; hashable, so that a step is compiled once."""

    model: Model
    optimizer: optax.GradientTransformation
    sources: int
    seed: int
    brightness: float
    contrast: float


def init_state(settings: StepSettings, key: jax.Array) -> TrainState:
    """A fresh state; call it under `jax.jit` with output shardings."""
    params = settings.model.init(key)
    return TrainState(jnp.zeros((), jnp.int32), params, settings.optimizer.init(params))


def train_step(
    settings: StepSettings, state: TrainState, batch: Batch
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update. A step whose loss or gradient is not finite changes nothing but the count."""
    image = augment(settings, state.step, batch["image"])
    grad_fn = jax.value_and_grad(loss, argnums=1, has_aux=True)
    (value, metrics), grads = grad_fn(settings, state.params, {**batch, "image": image})
    norm = optax.global_norm(grads)
    updates, optimizer = settings.optimizer.update(grads, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    good = jnp.isfinite(value) & jnp.isfinite(norm)
    params, optimizer = jax.tree.map(
        lambda new, old: jnp.where(good, new, old),
        (params, optimizer),
        (state.params, state.optimizer),
    )
    metrics |= {"loss": value, "grad_norm": norm, "skipped": ~good}
    return TrainState(state.step + 1, params, optimizer), metrics


def loss(
    settings: StepSettings, params: Params, batch: Batch
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean cross-entropy of the target tokens, and sums by source float32 [K]."""
    module = settings.model.module(params)
    logits = module(batch["image"], batch["prefix"], batch["target"])
    real = (batch["target"] != PAD).astype(jnp.float32)
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, batch["target"]) * real
    correct = (logits.argmax(-1) == batch["target"]) * real
    total = entropy.sum() / real.sum()

    def by_source(values):
        return jax.ops.segment_sum(values.sum(-1), batch["source"], settings.sources)

    sums = {"entropy": entropy, "correct": correct, "tokens": real}
    return total, {name: by_source(values) for name, values in sums.items()}


def augment(settings: StepSettings, step: jax.Array, image: jax.Array) -> jax.Array:
    """Brightness and contrast of each row, drawn from (seed, step, row): uint8 as `image`."""
    if not (settings.brightness or settings.contrast):
        return image
    key = jax.random.fold_in(jax.random.key(settings.seed), step)
    shift, scale = jax.random.uniform(key, (2, image.shape[0], 1, 1, 1, 1), minval=-1.0)
    pixels = image.astype(jnp.float32)
    mean = pixels.mean(axis=(1, 2, 3, 4), keepdims=True)
    pixels = (pixels - mean) * (1 + settings.contrast * scale) + mean
    pixels = pixels + 255 * settings.brightness * shift
    return jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.uint8)
