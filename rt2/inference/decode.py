"""Greedy decoding with a cache: the observation is encoded once, then one token at a time.

Shapes: B rows, n images, S image size, L prefix, T steps, A slots, K allowed tokens, V vocabulary.
All loops are inside the compiled program: nothing returns to the host between tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rt2.inference.constraint import constrain
from rt2.models import partition
from rt2.models.vision_language import VisionLanguage
from rt2.tokenizer import EOS, PAD

Array = jax.Array


class Decoded(NamedTuple):
    """tokens int32 [B, T]; log_prob float32 [B], the sum over the emitted tokens."""

    tokens: Array
    log_prob: Array


def actions(module: VisionLanguage, image: Array, prefix: Array, table: Array) -> Decoded:
    """One action for every row: the logits of the allowed tokens alone are computed.

    table int32 [A, K], -1 where a slot allows fewer. `log_prob` is under the distribution that is
    renormalised over the allowed tokens.
    """
    cache = module.start(module.encode(image, prefix), len(table))

    def step(carry, inputs):
        token, cache, log_prob = carry
        position, allowed = inputs
        hidden, cache = module.step(token, position, cache)
        logits = jnp.where(allowed >= 0, module.logits(hidden, allowed), -jnp.inf)
        choice = logits.argmax(-1)
        gained = jnp.take_along_axis(jax.nn.log_softmax(logits), choice[:, None], 1)[:, 0]
        token = allowed[choice]
        return (token, cache, log_prob + gained), token

    rows = prefix.shape[0]
    first = (jnp.full(rows, PAD, jnp.int32), cache, jnp.zeros(rows))
    positions = jnp.arange(len(table))
    (_, _, log_prob), tokens = jax.lax.scan(step, first, (positions, table))
    return _whole(tokens.T, log_prob)


def mixed(
    module: VisionLanguage, image: Array, prefix: Array, is_action: Array, allowed: Array
) -> Decoded:
    """Robot rows under the grammar and text rows freely, in one batch.

    is_action bool [B]; allowed bool [T, V]. A row that has ended emits pad.
    """
    cache = module.start(module.encode(image, prefix), len(allowed))

    def step(carry, inputs):
        token, cache, log_prob, ended = carry
        position, mask = inputs
        hidden, cache = module.step(token, position, cache)
        logits = constrain(module.logits(hidden), is_action, mask)
        choice = logits.argmax(-1).astype(jnp.int32)
        gained = jnp.take_along_axis(jax.nn.log_softmax(logits), choice[:, None], 1)[:, 0]
        token = jnp.where(ended, PAD, choice)
        log_prob = log_prob + jnp.where(ended, 0.0, gained)
        return (token, cache, log_prob, ended | (token == EOS)), token

    rows = prefix.shape[0]
    start = jnp.full(rows, PAD, jnp.int32)
    first = (start, cache, jnp.zeros(rows), jnp.zeros(rows, bool))
    positions = jnp.arange(len(allowed))
    (_, _, log_prob, _), tokens = jax.lax.scan(step, first, (positions, allowed))
    return _whole(tokens.T, log_prob)


def _whole(tokens: Array, log_prob: Array) -> Decoded:
    """The reply on every device: of many processes, each reads all of it."""
    return Decoded(partition.everywhere(tokens), partition.everywhere(log_prob))
