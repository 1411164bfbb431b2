"""Decoder-only prefix language model, of PaLM's or Gemma's blocks (Chowdhery et al. 2022; Gemma
Team 2024).

Shapes: B batch, S prefix positions, T target positions, L positions, D width, N heads, K key-value
heads, H head dim, Y layers. Rotary positions, no biases, a gated MLP, one table for embedding and
head. The prefix is seen whole by everyone; a target position sees it and the targets before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from rt2.models import layers, partition
from rt2.models.layers import Layers

Array = jax.Array
WAVELENGTH = 10_000.0  # of the slowest rotation, over 2 pi (Su et al. 2021)


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Sizes; `vocab`, `table` and `rows` as for the encoder-decoder.

    `parallel` is PaLM's block, attention and MLP side by side off one norm. Without, it is Gemma's:
    one after the other, with norms whose scale is kept as the distance from one.
    """

    width: int
    mlp: int
    heads: int
    kv_heads: int
    head_dim: int
    layers: int
    vocab: int
    activation: str
    parallel: bool
    table: int = 0

    @property
    def rows(self) -> int:
        """Rows of the embedding, a multiple of 128."""
        return layers.table_rows(self.vocab, self.table)


class Memory(NamedTuple):
    """A prefix after all layers."""

    key: Layers  # [B, S, K, H] each
    value: Layers
    mask: Array  # bool [B, S]: which positions are real
    first: Array  # [B, D]: the state that predicts the first target


class Cache(NamedTuple):
    """Keys and values of the prefix and, behind it, of the targets so far."""

    key: Layers  # [B, S + T - 1, K, H] each
    value: Layers
    mask: Array  # bool [B, S]
    first: Array  # [B, D]

    def rows(self, index: Array) -> Cache:
        """The cache of these rows, int [C]; one may be there several times."""
        kept = (layers.each_layer(lambda x: x[index], x) for x in self[:2])
        return Cache(*kept, self.mask[index], self.first[index])


Rotation = tuple[Array, Array]
Attend = Callable[["RotaryAttention", Array], tuple[Array, tuple[Array, Array]]]


def rotation(position: Array, head_dim: int) -> Rotation:
    """Cosine and sine float32 [B, L, 1, H/2] for positions int [B, L]."""
    rate = WAVELENGTH ** (-jnp.arange(0, head_dim, 2) / head_dim)
    angle = position[..., None, None].astype(jnp.float32) * rate
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: Array, by: Rotation) -> Array:
    """[B, L, N, H] with the pairs (i, i + H/2) turned by their angles."""
    (cos, sin), (a, b) = by, jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


class RotaryAttention(nnx.Module):
    """Attention with rotary positions and fewer heads for keys and values than for queries."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        embed = {"embed": config.width}
        queries = {"heads": config.heads, "head_dim": config.head_dim}
        shared = {"heads": config.kv_heads, "head_dim": config.head_dim}
        self.query = layers.Linear(embed, queries, bias=False, rngs=rngs)
        self.key = layers.Linear(embed, shared, bias=False, rngs=rngs)
        self.value = layers.Linear(embed, shared, bias=False, rngs=rngs)
        self.out = layers.Linear(queries, embed, bias=False, rngs=rngs)

    def keys_values(self, x: Array, by: Rotation) -> tuple[Array, Array]:
        """Keys and values [B, L, K, H]: what a cache holds."""
        return rotate(self.key(x), by), self.value(x)

    def attend(
        self, x: Array, keys_values: tuple[Array, Array], by: Rotation, mask: Array
    ) -> Array:
        """[B, L, D]; `mask` bool [B, 1, L, positions of the keys]."""
        query = rotate(self.query(x), by)
        return self.out(jax.nn.dot_product_attention(query, *keys_values, mask=mask))


class ParallelLayer(nnx.Module):
    """PaLM's block."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.norm = _norm(config, rngs)
        self.attention = RotaryAttention(config, rngs=rngs)
        self.mlp = _mlp(config, rngs)

    def __call__(self, x: Array, attend: Attend) -> tuple[Array, tuple[Array, Array]]:
        normed = self.norm(x)
        mixed, kept = attend(self.attention, normed)
        return x + mixed + self.mlp(normed), kept


class SequentialLayer(nnx.Module):
    """Gemma's block."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.norm_attention = _norm(config, rngs)
        self.attention = RotaryAttention(config, rngs=rngs)
        self.norm_mlp = _norm(config, rngs)
        self.mlp = _mlp(config, rngs)

    def __call__(self, x: Array, attend: Attend) -> tuple[Array, tuple[Array, Array]]:
        mixed, kept = attend(self.attention, self.norm_attention(x))
        x = x + mixed
        return x + self.mlp(self.norm_mlp(x)), kept


def _norm(config: DecoderConfig, rngs: nnx.Rngs) -> layers.RMSNorm:
    return layers.RMSNorm(config.width, offset=0.0 if config.parallel else 1.0, rngs=rngs)


def _mlp(config: DecoderConfig, rngs: nnx.Rngs) -> layers.GatedMLP:
    activation = layers.ACTIVATIONS[config.activation]
    return layers.GatedMLP(config.width, config.mlp, activation, rngs=rngs)


class DecoderOnly(nnx.Module):
    """Embeddings in, hidden states out; the embedding turns hidden states into logits."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        # drawn at the head's scale and scaled up where it is read, which is Gemma's convention and
        # PaLM's too but for a constant factor
        self.scale = config.width**0.5
        shape = (config.rows, config.width)
        self.embedding = layers.param(rngs, shape, ("vocab", "embed"), 1 / self.scale)
        layer = ParallelLayer if config.parallel else SequentialLayer
        self.layers = layers.stack(lambda rngs: layer(config, rngs=rngs), config.layers, rngs)
        self.norm = _norm(config, rngs)

    def embed(self, tokens: Array, dtype: jnp.dtype) -> Array:
        """int [B, L] -> [B, L, D]."""
        rows = partition.lookup(self.embedding[...], tokens) * self.scale
        return partition.by_rows(rows.astype(dtype))

    def hidden(self, x: Array, real: Array, targets: Array, remat: str) -> Array:
        """States [B, T, D] that predict T targets.

        x [B, S, D] is the prefix with its real positions `real` bool [B, S], targets int
        [B, T - 1] all targets but the last. Positions count what is real, so that padding between
        prefix and targets changes nothing.
        """
        prefix = x.shape[1]
        x = jnp.concatenate([x, self.embed(targets, x.dtype)], axis=1)
        seen = jnp.concatenate([real, jnp.ones(targets.shape, bool)], axis=1)
        index = jnp.arange(x.shape[1])
        order = (index[None, :] < prefix) | (index[None, :] <= index[:, None])
        attend = self._whole(seen, seen[:, None, None] & order)
        x = layers.run_stack(self.layers, x, lambda layer, x: layer(x, attend)[0], remat)
        first = _last(x[:, :prefix], real)
        return self.norm(jnp.concatenate([first[:, None], x[:, prefix:]], axis=1))

    def encode(self, x: Array, real: Array) -> Memory:
        """The memory of a prefix `x` [B, S, D] with real positions `real` bool [B, S]."""
        attend = self._whole(real, real[:, None, None])
        x, kept = layers.scan_stack(self.layers, lambda layer, x, _: layer(x, attend), x)
        return Memory(*kept, real, self.norm(_last(x, real)))

    def start(self, memory: Memory, length: int) -> Cache:
        """The cache for `length` targets; the last one is never read."""
        room = ((0, 0), (0, length - 1), (0, 0), (0, 0))
        kept = (layers.each_layer(lambda x: jnp.pad(x, room), x) for x in memory[:2])
        return Cache(*kept, memory.mask, memory.first)

    def step(self, token: Array, position: Array, cache: Cache) -> tuple[Array, Cache]:
        """State [B, D] after the target `token` int [B], which stands before `position` int []."""
        prefix, like = cache.mask.shape[1], jax.tree.leaves(cache.key)[0]
        slot = prefix + position - 1
        by = rotation(cache.mask.sum(1)[:, None] + position - 1, self.config.head_dim)
        later = jnp.arange(prefix, like.shape[-3]) <= slot
        later = jnp.broadcast_to(later, (token.shape[0], *later.shape))
        mask = jnp.concatenate([cache.mask, later], axis=1)[:, None, None]

        def layer_step(layer, x, kept):
            def attend(attention, normed):
                new = attention.keys_values(normed, by)
                both = tuple(
                    jax.lax.dynamic_update_slice_in_dim(c, n, slot, axis=1)
                    for c, n in zip(kept, new, strict=True)
                )
                return attention.attend(normed, both, by, mask), both

            return layer(x, attend)

        x = self.embed(token[:, None], like.dtype)
        x, kept = layers.scan_stack(self.layers, layer_step, x, cache[:2])
        return self.norm(x)[:, 0], cache._replace(key=kept[0], value=kept[1])

    def logits(self, hidden: Array, tokens: Array | None = None) -> Array:
        """float32 logits of hidden states [..., D]; see `layers.token_logits`."""
        return layers.token_logits(self.embedding[...], hidden, self.config.vocab, tokens)

    def _whole(self, real: Array, mask: Array) -> Attend:
        """Attention among all positions at once."""
        by = rotation(jnp.cumsum(real, axis=1) - 1, self.config.head_dim)

        def attend(attention, normed):
            kept = attention.keys_values(normed, by)
            return attention.attend(normed, kept, by, mask), kept

        return attend


def _last(x: Array, real: Array) -> Array:
    """[B, D]: the last real position of `x` [B, S, D]."""
    last = x.shape[1] - 1 - real[:, ::-1].argmax(1)
    return jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
