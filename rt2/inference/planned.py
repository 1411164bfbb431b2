"""Chain of thought: a plan in words, then the action, in one program (RT-2, section 4.4).

Shapes: B rows, L prefix, M tokens of the opening ("Action:"), A slots, K allowed tokens, T tokens
of a plan, its opening and its action.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rt2.inference.decode import log_prob_of
from rt2.inference.decoding import Sampling
from rt2.inference.sampling import choose
from rt2.models import partition
from rt2.models.vision_language import VisionLanguage
from rt2.tokenizer import EOS, PAD

Array = jax.Array


class Planned(NamedTuple):
    """A plan and the action that follows it; log_prob and mass as `decode.Decoded` has them."""

    tokens: Array  # int32 [B, T]: the plan, the opening, the action, pad
    begin: Array  # int32 [B]: where the action begins
    log_prob: Array  # float32 [B]; what a row was led to costs nothing
    mass: Array | None = None  # float32 [B, A], of the action's slots


class State(NamedTuple):
    """What goes from token to token."""

    position: Array
    tokens: Array  # int32 [B, M + T]: M pads, then those of Planned
    begin: Array  # int32 [B]; T where the action has not begun
    led: Array  # bool [B]: the words are over and the opening is not
    log_prob: Array  # float32 [B]
    mass: Array  # float32 [B, A]
    cache: Any

    def recent(self, count: int) -> Array:
        """int32 [B, M]: the last tokens."""
        return jax.lax.dynamic_slice_in_dim(self.tokens, self.position, count, axis=1)


def actions(
    module: VisionLanguage,
    memory: Any,
    table: Array,
    opening: Array,
    budget: int,
    sampling: Sampling | None = None,
    mass: bool = False,
) -> Planned:
    """Words freely until the opening int32 [M], then the grammar: table int32 [A, K], -1 unused.

    `memory` is what the module's `encode` made of the rows.
    A row that ends its words, or has said `budget` of them, is led through what is left of the
    opening; so T is budget + M + A. The head of all tokens is used while any row is at its words,
    and throughout with `mass`.
    """
    rows, (slots, width), begun = memory.mask.shape[0], table.shape, len(opening)
    length, row = budget + begun + slots, jnp.arange(rows)

    def goes_on(now: State) -> Array:
        return (now.position < length) & (now.position < now.begin + slots).any()

    def step(now: State) -> State:
        position = now.position
        acts, over = position >= now.begin, position >= now.begin + slots
        slot = jnp.clip(position - now.begin, 0, slots - 1)
        last = now.recent(begun)
        hidden, cache = module.step(last[:, -1], position, now.cache)
        few = module.logits(hidden, table.reshape(-1)).reshape(rows, slots, width)[row, slot]
        few = jnp.where(table[slot] >= 0, few, -jnp.inf)
        bin_ = choose(few, position, sampling)

        def say():
            every = module.logits(hidden)
            word = choose(every, position, sampling)
            share = jax.nn.logsumexp(few, axis=-1) - jax.nn.logsumexp(every, axis=-1)
            return word, log_prob_of(every, word), jnp.exp(share)

        def be_silent():
            return jnp.full(rows, EOS, jnp.int32), jnp.zeros(rows), jnp.ones(rows)

        speaks = ~acts & ~now.led & (position < budget)
        word, gained, share = jax.lax.cond(speaks.any() | mass, say, be_silent)
        led = ~acts & (~speaks | (word == EOS))
        word = jnp.where(led, opening[_matched(last, opening) % begun], word)
        token = jnp.where(over, PAD, jnp.where(acts, table[slot, bin_], word))
        gained = jnp.where(acts, log_prob_of(few, bin_), jnp.where(led, 0.0, gained))
        share = jnp.where(acts & ~over, share, now.mass[row, slot])
        after = now._replace(
            position=position + 1,
            tokens=jax.lax.dynamic_update_slice_in_dim(
                now.tokens, token[:, None], begun + position, axis=1
            ),
            led=led,
            log_prob=now.log_prob + jnp.where(over, 0.0, gained),
            mass=now.mass.at[row, slot].set(share),
            cache=cache,
        )
        opened = ~acts & (_matched(after.recent(begun), opening) == begun)
        return after._replace(begin=jnp.where(opened, position + 1, now.begin))

    first = State(
        position=jnp.int32(0),
        tokens=jnp.full((rows, begun + length), PAD, jnp.int32),
        begin=jnp.full(rows, length, jnp.int32),
        led=jnp.zeros(rows, bool),
        log_prob=jnp.zeros(rows),
        mass=jnp.ones((rows, slots)),
        cache=module.start(memory, length),
    )
    last = jax.lax.while_loop(goes_on, step, first)
    found = last.tokens[:, begun:], last.begin, last.log_prob, last.mass if mass else None
    return jax.tree.map(partition.everywhere, Planned(*found))


def _matched(last: Array, opening: Array) -> Array:
    """With how many tokens of the opening, int [B], the last M tokens [B, M] end."""
    n = len(opening)
    ends = [(last[:, n - j :] == opening[:j]).all(1) * j for j in range(n + 1)]
    return jnp.stack(ends).max(0)
