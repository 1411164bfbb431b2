"""Which tokens a row may emit, position by position.

A robot row follows the grammar of its actions; a text row is free. Validity holds by construction:
a forbidden token is never a candidate.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from rt2.actions import ActionSpec
from rt2.tokenizer import EOS, ActionVocabulary


def action_table(vocabulary: ActionVocabulary, spec: ActionSpec) -> np.ndarray:
    """int32 [slots, K]: the ids allowed in each slot, -1 where a slot has fewer."""
    return vocabulary.allowed(spec)


def position_mask(table: np.ndarray, vocab: int, length: int) -> np.ndarray:
    """bool [length, vocab] of an action row: its slots, then nothing but the end."""
    mask = np.zeros((length, vocab), bool)
    for position in range(length):
        allowed = table[position][table[position] >= 0] if position < len(table) else [EOS]
        mask[position, allowed] = True
    return mask


def constrain(logits: jnp.ndarray, is_action: jnp.ndarray, allowed: jnp.ndarray) -> jnp.ndarray:
    """Logits [B, V] with what robot rows may not say at -inf; text rows are untouched.

    is_action bool [B]; allowed bool [V], the mask of this position.
    """
    return jnp.where(is_action[:, None] & ~allowed, -jnp.inf, logits)
