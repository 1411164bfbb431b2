"""The training step: a pure function of state and batch.

Shapes: B rows, n images, S image size, L prefix, T target, K sources.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rt2.models import partition
from rt2.models.build import Model, Params
from rt2.tokenizer import PAD

CHUNK = 128  # target tokens of a device whose logits exist at a time
NORM_SPEED = 0.01  # part of the way that the usual gradient norm goes to each new one

Batch = dict[str, jax.Array]
"""image uint8 [B, n, S, S, 3]; has_image bool [B]; prefix int32 [B, L]; target int32 [B, T];
source int32 [B]."""


class TrainState(NamedTuple):
    """All that a step changes.

    `averages` has what the settings ask for: "norm" float32 [], the usual gradient norm, and
    "params", the moving average of the trained parameters.
    """

    step: jax.Array  # int32 []
    params: Params
    optimizer: Any
    averages: dict[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """What a step needs beside its state; hashable, so that a step is compiled once."""

    model: Model
    optimizer: optax.GradientTransformation
    sources: int
    seed: int
    brightness: float
    contrast: float
    frozen: tuple[str, ...] = ()  # parameters whose paths begin so are not trained
    accumulate: int = 1  # parts of a batch that are run one after another
    skip_above: float = 0.0  # times the usual gradient norm; 0 skips no spike
    ema: float = 0.0  # part of the average that stays at a step; 0 keeps no average


def split_frozen(settings: StepSettings, params: Params) -> tuple[Params, Params]:
    """The parameters that are trained, and the frozen ones."""
    frozen = {path: x for path, x in params.items() if path.startswith(settings.frozen)}
    return {path: x for path, x in params.items() if path not in frozen}, frozen


def init_state(settings: StepSettings, key: jax.Array) -> TrainState:
    """A fresh state; call it under `jax.jit` with output shardings."""
    params = settings.model.init(key)
    trained, _ = split_frozen(settings, params)
    averages: dict[str, Any] = {}
    if settings.skip_above:
        averages["norm"] = jnp.zeros(())
    if settings.ema:
        averages["params"] = trained
    return TrainState(jnp.zeros((), jnp.int32), params, settings.optimizer.init(trained), averages)


def start_from(state: TrainState, loaded: Params) -> TrainState:
    """A fresh state with these parameters in the place of its own; the average starts with them."""
    params = {**state.params, **loaded}
    averages = dict(state.averages)
    if "params" in averages:
        averages["params"] = {path: jnp.copy(params[path]) for path in averages["params"]}
    return state._replace(params=params, averages=averages)


def exchange_average(state: TrainState) -> TrainState:
    """The averaged parameters in the place of the trained ones, and those in theirs.

    The same state where no average is kept; the exchange undoes itself.
    """
    if "params" not in state.averages:
        return state
    average = state.averages["params"]
    trained = {path: state.params[path] for path in average}
    averages = {**state.averages, "params": trained}
    return state._replace(params={**state.params, **average}, averages=averages)


def train_step(
    settings: StepSettings, state: TrainState, batch: Batch
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update. A step whose loss or gradient is not finite changes nothing but the count.

    Nor does one whose gradient norm is `skip_above` times the usual one.
    """
    drawn = jax.random.fold_in(jax.random.key(settings.seed), state.step)
    image = augment(batch["image"], drawn, settings.brightness, settings.contrast)
    batch = {**batch, "image": image}
    before, frozen = split_frozen(settings, state.params)
    (value, metrics), grads = gradients(settings, state.params, batch)
    norm = optax.global_norm(grads)
    good = jnp.isfinite(value) & jnp.isfinite(norm)
    averages = dict(state.averages)
    if settings.skip_above:
        spike, averages["norm"] = follow_norm(settings.skip_above, averages["norm"], norm)
        good &= ~spike
    updates, optimizer = settings.optimizer.update(grads, state.optimizer, before)
    trained = optax.apply_updates(before, updates)
    if settings.ema:
        averages["params"] = jax.tree.map(
            lambda old, new: settings.ema * old + (1 - settings.ema) * jnp.where(good, new, old),
            *(averages["params"], trained),
        )
    trained, optimizer = jax.tree.map(
        lambda new, old: jnp.where(good, new, old),
        (trained, optimizer),
        (before, state.optimizer),
    )
    metrics |= {"loss": value, "grad_norm": norm, "skipped": ~good}
    return TrainState(state.step + 1, {**frozen, **trained}, optimizer, averages), metrics


def follow_norm(
    skip_above: float, usual: jax.Array, norm: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Whether `norm` is a spike, and the usual norm after it; 0 is none yet.

    A spike counts as no more than the limit, so that a norm which stays high becomes usual.
    """
    limit = jnp.where(usual > 0, skip_above * usual, jnp.inf)
    moved = usual + NORM_SPEED * (jnp.minimum(norm, limit) - usual)
    moved = jnp.where(usual > 0, moved, norm)
    return norm > limit, jnp.where(jnp.isfinite(norm), moved, usual)


def gradients(
    settings: StepSettings, params: Params, batch: Batch
) -> tuple[tuple[jax.Array, dict[str, jax.Array]], Params]:
    """((loss, sums by source), gradients of the trained parameters) of a batch.

    In `accumulate` parts the memory of the activations is that of a part, and the result that of
    the whole batch: every part's entropy is divided by the tokens of all. Row i is in part
    i modulo `accumulate`, so that no row leaves its device.
    """
    trained, frozen = split_frozen(settings, params)
    tokens = (batch["target"] != PAD).sum()

    def share(trained: Params, rows: Batch):
        sums = source_sums(settings, {**frozen, **trained}, rows)
        return sums["entropy"].sum() / tokens, sums

    grad = jax.value_and_grad(share, has_aux=True)
    if settings.accumulate == 1:
        return grad(trained, batch)
    parts = {
        name: x.reshape(-1, settings.accumulate, *x.shape[1:]).swapaxes(0, 1)
        for name, x in batch.items()
    }

    def body(total, rows: Batch):
        return jax.tree.map(jnp.add, total, grad(trained, rows)), None

    shapes = jax.eval_shape(grad, trained, jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(body, zeros, parts)[0]


def loss(
    settings: StepSettings, params: Params, batch: Batch
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean cross-entropy of the target tokens, and sums by source float32 [K]."""
    sums = source_sums(settings, params, batch)
    return sums["entropy"].sum() / sums["tokens"].sum(), sums


def source_sums(settings: StepSettings, params: Params, batch: Batch) -> dict[str, jax.Array]:
    """Entropy, correct tokens and tokens by source, float32 [K]."""
    module = settings.model.module(params)
    hidden = module.hidden(*(batch[name] for name in ("image", "prefix", "target", "has_image")))
    target = batch["target"]
    source = jnp.broadcast_to(batch["source"][:, None], target.shape)
    return token_sums(module.logits, Tokens(hidden, target, source), settings.sources)


class Tokens(NamedTuple):
    """Target positions: [B, T], or [G, N] by groups, or [N]."""

    hidden: jax.Array  # float [..., D]
    target: jax.Array  # int32
    source: jax.Array  # int32


def token_sums(
    head: Callable[[jax.Array], jax.Array], tokens: Tokens, sources: int
) -> dict[str, jax.Array]:
    """Entropy, correct tokens and tokens by source, float32 [K], of tokens [B, T].

    The real tokens are brought to the front and go through `head` in chunks; chunks of padding
    alone are skipped, and no more than a chunk's logits exist at a time. Most rows are short (an
    action, a name), so most positions of a batch are padding. Devices that hold different rows (G
    groups of them) each bring their own to the front; then all see the chunk, and each has its part
    of the vocabulary.
    """
    groups = partition.shards(partition.ROWS)
    tokens = jax.tree.map(lambda x: x.reshape(groups, -1, *x.shape[2:]), tokens)
    count = tokens.target.shape[1]
    size = min(CHUNK, count)
    front = jnp.argsort(tokens.target == PAD, axis=1, stable=True)
    front = jnp.pad(front, ((0, 0), (0, -count % size)), constant_values=count - 1)
    real = (tokens.target != PAD).sum(1)

    def chunk_sums(start: jax.Array, rows: jax.Array) -> dict[str, jax.Array]:
        chunk = jax.tree.map(lambda x: _take(x, rows), tokens)
        valid = start + jnp.arange(size) < real[:, None]
        chunk, valid = jax.tree.map(
            lambda x: partition.everywhere(x).reshape(-1, *x.shape[2:]), (chunk, valid)
        )
        return sums_by_source(head(chunk.hidden), chunk, valid.astype(jnp.float32), sources)

    def body(totals, inputs):
        start, rows = inputs
        zeros = lambda: jax.tree.map(jnp.zeros_like, totals)  # noqa: E731
        added = jax.lax.cond(start < real.max(), lambda: chunk_sums(start, rows), zeros)
        return jax.tree.map(jnp.add, totals, added), None

    zeros = {name: jnp.zeros(sources) for name in ("entropy", "correct", "tokens")}
    starts = jnp.arange(0, front.shape[1], size)
    chunks = front.reshape(groups, -1, size).swapaxes(0, 1)
    # the whole body, the choice included: a branch's residuals would be kept for every chunk
    return jax.lax.scan(jax.checkpoint(body), zeros, (starts, chunks))[0]


def _take(x: jax.Array, rows: jax.Array) -> jax.Array:
    """x[g, rows[g, i]] of [G, N, ...] for int [G, C]: [G, C, ...]."""
    rows = rows.reshape(*rows.shape, *[1] * (x.ndim - 2))
    return partition.by_rows(jnp.take_along_axis(x, rows, axis=1))


def sums_by_source(
    logits: jax.Array, tokens: Tokens, valid: jax.Array, sources: int
) -> dict[str, jax.Array]:
    """Sums over N tokens with their logits float32 [N, V], which may be spread over V.

    A token is correct where no logit is above its own.
    """
    logits = partition.by_vocabulary(logits, 1)
    is_target = jnp.arange(logits.shape[1]) == tokens.target[:, None]
    wanted = jnp.where(is_target, logits, 0).sum(1)
    top = jax.lax.stop_gradient(logits).max(1)
    entropy = top + jnp.log(jnp.exp(logits - top[:, None]).sum(1)) - wanted
    by_token = {"entropy": entropy, "correct": (wanted >= top).astype(jnp.float32), "tokens": 1}
    return {
        name: jax.ops.segment_sum(values * valid, tokens.source, sources)
        for name, values in by_token.items()
    }


def augment(image: jax.Array, key: jax.Array, brightness: float, contrast: float) -> jax.Array:
    """Another brightness and contrast for each row, drawn by `key`: uint8 as `image`."""
    if not (brightness or contrast):
        return image
    shift, scale = jax.random.uniform(key, (2, image.shape[0], 1, 1, 1, 1), minval=-1.0)
    pixels = image.astype(jnp.float32)
    mean = pixels.mean(axis=(1, 2, 3, 4), keepdims=True)
    pixels = (pixels - mean) * (1 + contrast * scale) + mean
    pixels = pixels + 255 * brightness * shift
    return jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.uint8)
