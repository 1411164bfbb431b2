"""How tokens are chosen: what a user sets. `rt2.inference.sampling` does it; this needs no JAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rt2.errors import ConfigError

LARGEST_SEED = 2**32


class Sampling(NamedTuple):
    """How every row draws, [B] each; a row draws the same whatever rows stand beside it."""

    seed: np.ndarray  # uint32
    temperature: np.ndarray  # float32; 0 takes the likeliest
    top_k: np.ndarray  # int32: among the k likeliest; 0 is all
    top_p: np.ndarray  # float32: among the fewest that have this probability together; 1 is all


def _knob(default: Any, what: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": what})


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

    temperature: float = _knob(
        0.0, "draw tokens, the hotter the more evenly; 0 takes the likeliest"
    )
    top_k: int = _knob(0, "draw among the K likeliest tokens; 0 is all")
    top_p: float = _knob(1.0, "draw among the fewest tokens with this probability together")
    seed: int = _knob(0, "of the draws; every row takes the next number")
    beams: int = _knob(1, "answers to questions: search among so many at once")
    hold_below: float = _knob(0.0, "hold where the allowed tokens have less probability than this")

    def __post_init__(self):
        bounds = {
            "temperature": (0 <= self.temperature <= 100, "0 to 100"),
            "top_k": (0 <= self.top_k < 2**31, "0 or more"),
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

    def after(self, rows: int) -> Decoding:
        """The same for the call that follows one of so many rows: it draws with other seeds."""
        if not self.temperature:
            return self
        return dataclasses.replace(self, seed=(self.seed + rows) % LARGEST_SEED)

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
