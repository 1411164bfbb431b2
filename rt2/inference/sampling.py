"""Which of the allowed tokens is taken: the likeliest, or a draw."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rt2.inference.decoding import Sampling

Array = jax.Array


def choose(logits: Array, position: Array, sampling: Sampling | None) -> Array:
    """Index int32 [B] into logits [B, K], where -inf is never taken; None is greedy."""
    likeliest = logits.argmax(-1).astype(jnp.int32)
    if sampling is None:
        return likeliest
    scaled = logits / jnp.where(sampling.temperature > 0, sampling.temperature, 1.0)[:, None]
    scaled = truncate(scaled, sampling.top_k, sampling.top_p)

    def draw(seed: Array, row: Array) -> Array:
        return jax.random.categorical(jax.random.fold_in(jax.random.key(seed), position), row)

    drawn = jax.vmap(draw)(sampling.seed, scaled).astype(jnp.int32)
    return jnp.where(sampling.temperature > 0, drawn, likeliest)


def truncate(logits: Array, top_k: Array, top_p: Array) -> Array:
    """Logits [B, K] with everything but the likeliest at -inf; see Sampling.

    The likeliest token always stays, and so do ties with the last that stays.
    """
    order = -jnp.sort(-logits, axis=-1)
    share = jax.nn.softmax(order)
    before = jnp.cumsum(share, axis=-1) - share
    rank = jnp.arange(logits.shape[-1])
    stays = (rank < jnp.where(top_k > 0, top_k, logits.shape[-1])[:, None]) & (
        before < top_p[:, None]
    )
    last = jnp.maximum(stays.sum(-1) - 1, 0)
    least = jnp.take_along_axis(order, last[:, None], axis=-1)
    return jnp.where(logits >= least, logits, -jnp.inf)
