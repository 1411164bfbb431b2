"""A language model that is small enough to be followed by hand."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rt2.tokenizer import PAD


class Memory(NamedTuple):
    """What was read: a state and, as models have it, which positions are real."""

    state: jax.Array  # [B, 16]
    mask: jax.Array


class Remembered(NamedTuple):
    """A cache of all tokens so far."""

    state: jax.Array  # [B, 16]

    def rows(self, index):
        return Remembered(self.state[index])


class Recurrent:
    """A language model of 10 tokens, end among them, in which every earlier token matters."""

    def __init__(self):
        keys = jax.random.split(jax.random.key(2), 3)
        self.mix = jax.random.normal(keys[0], (16, 16)) / 4
        self.table = 2 * jax.random.normal(keys[1], (10, 16))
        self.head = 2 * jax.random.normal(keys[2], (16, 10))

    def encode(self, image, prefix):
        return Memory(self.table[prefix].sum(1), prefix != PAD)

    def start(self, memory, length):
        return Remembered(memory.state)

    def step(self, token, position, cache):
        state = jnp.tanh(cache.state @ self.mix + self.table[token])
        return state, Remembered(state)

    def logits(self, hidden, ids=None):
        every = (hidden @ self.head).at[:, PAD].set(-1e9)
        return every if ids is None else every[:, ids]

    def log_probs(self, tokens, state):
        """float [10] of the next token, by steps in numpy; state [16] as `encode` made it."""
        for token in (PAD, *tokens):
            state = np.tanh(state @ self.mix + self.table[token])
        return np.asarray(jax.nn.log_softmax(self.logits(state[None])[0]))
