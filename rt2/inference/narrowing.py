"""A checkpoint's weights made narrow, and what that costs, on the examples that were kept with it.

Every other example calibrates int8; the rest is decoded with the weights as they were and as they
are, so that the loss is told of inputs which the rounding has not seen.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rt2.checkpoint import CheckpointError
from rt2.errors import ConfigError
from rt2.inference import constraint, decode
from rt2.inference.decoding import Decoding
from rt2.inference.examples import NAME, Rows
from rt2.inference.metadata import WEIGHTS
from rt2.models import quantise
from rt2.models.build import Model, Params
from rt2.preprocess import Preprocess

DRAWS = 2  # replies of each example
BATCH = 64

Examples = Mapping[str, Rows]


def narrowed(
    model: Model, preprocess: Preprocess, params: Params, weights: str, examples: Examples | None
) -> tuple[Params, dict[str, Any]]:
    """`params` as `weights` says, and what to say of them: `kind`, and the loss where measured.

    `tokens` action tokens were decoded, `agreeing` of them as with float32; `moved` is the mean
    change of an action's number, as a share of its range. Raises ConfigError for unknown `weights`,
    CheckpointError where int8 has no examples.
    """
    if weights not in WEIGHTS:
        raise ConfigError(f"weights: {weights!r}, expected one of {', '.join(WEIGHTS)}")
    if weights == "f32":
        return params, {"kind": weights}
    if weights == "bf16":
        narrow = quantise.bf16(model, params)
    elif not examples:
        raise CheckpointError(
            f"weights=int8: no {NAME} beside the checkpoint, whose held-out examples decide how to "
            "round. `python -m rt2.train` on its workdir writes it, with config.keep_examples"
        )
    else:
        seen = {name: Rows(*(x[::2] for x in rows)) for name, rows in examples.items()}
        narrow = quantise.int8(model, params, fisher(model, preprocess, params, seen))
    if not examples:
        return narrow, {"kind": weights}
    unseen = {name: Rows(*(x[1::2] for x in rows)) for name, rows in examples.items()}
    return narrow, {"kind": weights} | loss(model, preprocess, params, narrow, unseen)


def fisher(
    model: Model, preprocess: Preprocess, params: Params, examples: Examples
) -> quantise.Grams:
    """The Gram matrices of gradients of the log-probability of drawn actions."""
    total = None
    for name, rows in examples.items():
        table = constraint.action_table(preprocess.vocabulary, preprocess.codecs[name].spec)
        for i, (image, prefix) in enumerate(zip(*rows, strict=True)):
            for seed in range(DRAWS * i, DRAWS * (i + 1)):
                drawn = Decoding(temperature=1.0, seed=seed).sampling([0])
                found = _gram(model, params, image[None], prefix[None], table, drawn)
                total = found if total is None else jax.tree.map(jnp.add, total, found)
    return jax.device_get(total)


def loss(
    model: Model, preprocess: Preprocess, params: Params, narrow: Params, examples: Examples
) -> dict[str, Any]:
    """`tokens`, `agreeing` and `moved` of greedy actions; see `narrowed`."""
    wide = quantise.widen(narrow)
    tokens, agreeing, moved = 0, 0, []
    for name, rows in examples.items():
        codec = preprocess.codecs[name]
        table = constraint.action_table(preprocess.vocabulary, codec.spec)
        for start in range(0, len(rows.image), BATCH):
            batch = [x[start : start + BATCH] for x in rows]
            ours, theirs = (np.asarray(_tokens(model, p, *batch, table)) for p in (wide, params))
            tokens, agreeing = tokens + ours.size, agreeing + int((ours == theirs).sum())
            actions = (codec.decode(preprocess.vocabulary.bins(made)) for made in (ours, theirs))
            shares = np.abs(np.subtract(*actions)) / np.subtract(codec.high, codec.low)
            moved.append(shares.ravel())
    return {
        "tokens": tokens,
        "agreeing": agreeing,
        "moved": float(np.concatenate(moved).mean()),
    }


@functools.partial(jax.jit, static_argnums=0)
def _gram(model: Model, params: Params, image, prefix, table, sampling) -> dict[str, jax.Array]:
    def log_prob(matrices: Params) -> jax.Array:
        module = model.module({**params, **matrices})
        memory = module.encode(image, prefix)
        return decode.actions(module, memory, table, sampling).log_prob[0]

    matrices = {path: params[path] for path in quantise.views(model)}
    return quantise.gram(model, jax.grad(log_prob)(matrices))


@functools.partial(jax.jit, static_argnums=0)
def _tokens(model: Model, params: Params, image, prefix, table) -> jax.Array:
    module = model.module(params)
    return decode.actions(module, module.encode(image, prefix), table).tokens
