"""Which of the allowed tokens is taken: the likeliest, or a draw."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rt2.errors import ConfigError

Array = jax.Array
LARGEST_SEED = 2**32


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How tokens are chosen; as it is, the likeliest one after the other.

    With `temperature` above 0 they are drawn, among the `top_k` likeliest (0 is all) and the fewest
    that have the probability `top_p` together; row i of a call draws with `seed` + i. `beams` above
    1 searches the likeliest whole answer; actions are not searched. Below `hold_below`, the part of
    the whole vocabulary's probability that the allowed tokens of an action have in its worst slot,
    a reply says `hold`: the model meant to say something else. Raises ConfigError on values that
    make no sense.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    beams: int = 1
    hold_below: float = 0.0

    def __post_init__(self):
        bounds = {
            "temperature": (0 <= self.temperature <= 100, "0 to 100"),
            "top_k": (self.top_k >= 0, "0 or more"),
            "top_p": (0 < self.top_p <= 1, "above 0, at most 1"),
            "seed": (0 <= self.seed < LARGEST_SEED, f"0 to {LARGEST_SEED - 1}"),
            "beams": (1 <= self.beams <= 16, "1 to 16"),
            "hold_below": (0 <= self.hold_below <= 1, "0 to 1"),
        }
        for name, (good, expected) in bounds.items():
            if not good:
                raise ConfigError(f"{name}: {getattr(self, name)}, expected {expected}")
        if self.beams > 1 and self.temperature > 0:
            raise ConfigError("beams above 1 search, a temperature above 0 draws: give one of them")

    def sampling(self, rows: Sequence[int]) -> Sampling | None:
        """What `choose` needs for the rows of a call with these numbers; None where none draws."""
        if not self.temperature:
            return None
        n = len(rows)
        seeds = (self.seed + np.asarray(rows, np.uint64)) % LARGEST_SEED
        return Sampling(
            seeds.astype(np.uint32),
            np.full(n, self.temperature, np.float32),
            np.full(n, self.top_k, np.int32),
            np.full(n, self.top_p, np.float32),
        )


GREEDY = Decoding()


class Sampling(NamedTuple):
    """How every row draws, [B] each; a row draws the same whatever rows stand beside it."""

    seed: Array  # uint32
    temperature: Array  # float32; 0 takes the likeliest
    top_k: Array  # int32: among the k likeliest; 0 is all
    top_p: Array  # float32: among the fewest that have this probability together; 1 is all


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
