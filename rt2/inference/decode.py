"""Decoding with a cache: the observation is encoded once, then one token at a time.

`memory` is what the module's `encode` made of the rows' images and questions. All loops are inside
the compiled program: nothing returns to the host between tokens.

Shapes: B rows, T steps, A slots, K allowed tokens, V vocabulary, W beams.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rt2.inference.constraint import constrain
from rt2.inference.decoding import Sampling
from rt2.inference.sampling import choose
from rt2.models import partition
from rt2.models.vision_language import VisionLanguage
from rt2.tokenizer import EOS, PAD

Array = jax.Array
LENGTH_POWER = 0.6  # of the length that a beam's score is divided by (Wu et al. 2016, section 7)


class Decoded(NamedTuple):
    """tokens int32 [B, T]; log_prob float32 [B], the sum over the emitted tokens.

    log_prob is under the distribution that is renormalised over the allowed tokens, before any
    temperature. mass float32 [B, A], where asked for: the part of the whole vocabulary's
    probability that the allowed tokens have in each slot; 1 where all are allowed. spread float32
    [B, A, K], where asked for: the probability of every allowed token, of the same distribution as
    log_prob; 0 where a slot allows fewer.
    """

    tokens: Array
    log_prob: Array
    mass: Array | None = None
    spread: Array | None = None


def actions(
    module: VisionLanguage,
    memory: Any,
    table: Array,
    sampling: Sampling | None = None,
    mass: bool = False,
    spread: bool = False,
) -> Decoded:
    """One action for every row: the logits of the allowed tokens alone are computed.

    table int32 [A, K], -1 where a slot allows fewer. `mass` needs the logits of all tokens too.
    """
    cache = module.start(memory, len(table))

    def step(carry, inputs):
        token, cache, log_prob = carry
        position, allowed = inputs
        hidden, cache = module.step(token, position, cache)
        logits = jnp.where(allowed >= 0, module.logits(hidden, allowed), -jnp.inf)
        choice = choose(logits, position, sampling)
        share = None
        if mass:
            whole = jax.nn.logsumexp(module.logits(hidden), axis=-1)
            share = jnp.exp(jax.nn.logsumexp(logits, axis=-1) - whole)
        token = allowed[choice]
        every = jax.nn.softmax(logits) if spread else None
        return (token, cache, log_prob + log_prob_of(logits, choice)), (token, share, every)

    rows = memory.mask.shape[0]
    first = (jnp.full(rows, PAD, jnp.int32), cache, jnp.zeros(rows))
    positions = jnp.arange(len(table))
    (_, _, log_prob), made = jax.lax.scan(step, first, (positions, table))
    tokens, shares, spreads = jax.tree.map(lambda x: x.swapaxes(0, 1), made)
    return _whole(Decoded(tokens, log_prob, shares, spreads))


def mixed(
    module: VisionLanguage,
    memory: Any,
    is_action: Array,
    allowed: Array,
    sampling: Sampling | None = None,
) -> Decoded:
    """Robot rows under the grammar and text rows freely, in one batch.

    is_action bool [B]; allowed bool [T, V]. A row that has ended emits pad; when all have, the loop
    ends.
    """
    rows, length = memory.mask.shape[0], len(allowed)
    cache = module.start(memory, length)

    def goes_on(carry):
        position, *_, ended = carry
        return (position < length) & ~ended.all()

    def step(carry):
        position, tokens, cache, log_prob, ended = carry
        last = jnp.where(position > 0, tokens[:, position - 1], PAD)
        hidden, cache = module.step(last, position, cache)
        logits = constrain(module.logits(hidden), is_action, allowed[position])
        choice = choose(logits, position, sampling)
        token = jnp.where(ended, PAD, choice)
        log_prob = log_prob + jnp.where(ended, 0.0, log_prob_of(logits, choice))
        tokens = tokens.at[:, position].set(token)
        return position + 1, tokens, cache, log_prob, ended | (token == EOS)

    tokens = jnp.full((rows, length), PAD, jnp.int32)
    first = (jnp.int32(0), tokens, cache, jnp.zeros(rows), jnp.zeros(rows, bool))
    _, tokens, _, log_prob, _ = jax.lax.while_loop(goes_on, step, first)
    return _whole(Decoded(tokens, log_prob))


class Beams(NamedTuple):
    """The answers that are still followed, the likeliest first."""

    tokens: Array  # int32 [B, W, T]
    score: Array  # float32 [B, W], log-probabilities
    ended: Array  # bool [B, W]


def answers(module: VisionLanguage, memory: Any, length: int, width: int) -> Decoded:
    """A free answer of at most `length` tokens a row, by beam search over `width` candidates.

    Answers of different lengths are compared by their scores divided by ((5 + tokens) / 6) to the
    power LENGTH_POWER.
    """
    rows = memory.mask.shape[0]
    cache = module.start(memory, length)
    cache = cache.rows(jnp.repeat(jnp.arange(rows), width))

    def step(carry, position):
        beams, cache = carry
        last = jnp.where(position > 0, beams.tokens[:, :, position - 1], PAD)
        hidden, cache = module.step(last.reshape(-1), position, cache)
        gained = jax.nn.log_softmax(module.logits(hidden)).reshape(rows, width, -1)
        beams, parents = advance(beams, gained, position)
        return (beams, cache.rows((jnp.arange(rows)[:, None] * width + parents).reshape(-1))), None

    tokens = jnp.full((rows, width, length), PAD, jnp.int32)
    # one candidate at first: W equal ones would stay equal
    score = jnp.full((rows, width), -jnp.inf).at[:, 0].set(0.0)
    first = Beams(tokens, score, jnp.zeros((rows, width), bool))
    (beams, _), _ = jax.lax.scan(step, (first, cache), jnp.arange(length))
    count = (beams.tokens != PAD).sum(-1)
    best = (beams.score / ((5 + count) / 6) ** LENGTH_POWER).argmax(1)
    chosen = jnp.arange(rows), best
    return _whole(Decoded(beams.tokens[chosen], beams.score[chosen]))


def advance(beams: Beams, gained: Array, position: Array) -> tuple[Beams, Array]:
    """The W best continuations, and which beam int [B, W] each goes on from.

    gained float32 [B, W, V]: log-probabilities of the next token. An ended answer has one
    continuation, pad, which costs nothing.
    """
    rows, width, vocab = gained.shape
    stays = jnp.where(jnp.arange(vocab) == PAD, 0.0, -jnp.inf)
    gained = jnp.where(beams.ended[..., None], stays, gained)
    total = (beams.score[..., None] + gained).reshape(rows, -1)
    score, index = jax.lax.top_k(total, width)
    parents, token = index // vocab, (index % vocab).astype(jnp.int32)
    kept = jnp.arange(rows)[:, None], parents
    tokens = beams.tokens[kept].at[:, :, position].set(token)
    return Beams(tokens, score, beams.ended[kept] | (token == EOS)), parents


def log_prob_of(logits: Array, choice: Array) -> Array:
    """float32 [B] of the choices int [B] among logits [B, K]."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), choice[:, None], 1)[:, 0]


def _whole(decoded: Decoded) -> Decoded:
    """The reply on every device: of many processes, each reads all of it."""
    return jax.tree.map(partition.everywhere, decoded)
