"""T5.1.1-style encoder-decoder (Raffel et al. 2020; UL2 with silu): the text half of PaLI.

Shapes: B batch, L query positions, S memory positions, T target positions, D width, N heads,
H head dim, V vocabulary, Y layers. Pre-RMSNorm, no biases, gated MLP, one table of relative
position biases per stack, none in cross-attention.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from rt2.models import layers, partition
from rt2.models.layers import Layers

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """Sizes of the text model; `tied_head` reuses the embedding as the output matrix (T5 1.0).

    `vocab` is the tokenizer's, and what the logits reach. The tables have `rows`: at least those of
    the published weights, `table`, and rounded up so that they divide over a mesh.
    """

    width: int
    mlp: int
    heads: int
    head_dim: int
    encoder_layers: int
    decoder_layers: int
    vocab: int
    activation: str = "gelu"
    tied_head: bool = False
    mimetic: bool = False  # start of the attention, see layers.Attention
    table: int = 0

    @property
    def rows(self) -> int:
        """Rows of the embedding and the head, a multiple of 128."""
        return layers.table_rows(self.vocab, self.table)


class Memory(NamedTuple):
    """What the decoder reads: encoder output and which positions are real."""

    x: Array  # [B, S, D]
    mask: Array  # bool [B, S]


class Cache(NamedTuple):
    """Keys and values of the decoder: its own, written as it goes, and the memory's.

    Those of all layers, as `scan_stack` gives them.
    """

    own_key: Layers  # [B, N, T, H] each
    own_value: Layers
    cross_key: Layers  # [B, N, S, H] each
    cross_value: Layers
    memory_mask: Array  # bool [B, S]

    def rows(self, index: Array) -> Cache:
        """The cache of these rows, int [C]; one may be there several times."""
        kept = (layers.each_layer(lambda x: x[index], x) for x in self[:4])
        return Cache(*kept, self.memory_mask[index])


class RelativePosition(nnx.Module):
    """T5's bucketed relative position bias: 32 buckets, logarithmic up to a distance of 128.

    `look_away` starts with a token that does not find itself, as it else would at a mimetic start.
    """

    def __init__(self, heads: int, bidirectional: bool, *, look_away: bool = False, rngs: nnx.Rngs):
        self.table = layers.param(rngs, (32, heads), (None, "heads"), 1.0 / math.sqrt(heads))
        if look_away:
            self.table[...] = self.table[...].at[0].set(-layers.MATCH)
        self.bidirectional = bidirectional

    def __call__(self, query: Array, key: Array) -> Array:
        """float [1, N, L, S] for int positions `query` [L] and `key` [S]."""
        distance = key[None, :] - query[:, None]
        buckets = 32
        offset = jnp.zeros_like(distance)
        if self.bidirectional:
            buckets = 16
            offset = jnp.where(distance > 0, buckets, 0)
            distance = jnp.abs(distance)
        else:
            distance = jnp.maximum(-distance, 0)
        exact = buckets // 2
        far = jnp.maximum(distance, exact).astype(jnp.float32)
        scaled = jnp.log(far / exact) / math.log(128 / exact) * (buckets - exact)
        coarse = jnp.minimum(exact + scaled.astype(jnp.int32), buckets - 1)
        bucket = offset + jnp.where(distance < exact, distance, coarse)
        return self.table[...][bucket].transpose(2, 0, 1)[None]


def _attention(config: TextConfig, rngs: nnx.Rngs) -> layers.Attention:
    return layers.Attention(
        config.width,
        config.heads,
        config.head_dim,
        bias=False,
        scale=1.0,
        query_gain=config.head_dim**-0.5,
        mimetic=config.mimetic,
        rngs=rngs,
    )


def _mlp(config: TextConfig, rngs: nnx.Rngs) -> layers.GatedMLP:
    return layers.GatedMLP(
        config.width, config.mlp, layers.ACTIVATIONS[config.activation], rngs=rngs
    )


class EncoderLayer(nnx.Module):
    """Self-attention and MLP."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
        self.norm_attention = layers.RMSNorm(config.width, rngs=rngs)
        self.attention = _attention(config, rngs)
        self.norm_mlp = layers.RMSNorm(config.width, rngs=rngs)
        self.mlp = _mlp(config, rngs)

    def __call__(self, x: Array, bias: Array, mask: Array) -> Array:
        x = x + self.attention(self.norm_attention(x), bias, mask)
        return x + self.mlp(self.norm_mlp(x))


class DecoderLayer(nnx.Module):
    """Causal self-attention, cross-attention, MLP."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
        self.norm_attention = layers.RMSNorm(config.width, rngs=rngs)
        self.attention = _attention(config, rngs)
        self.norm_cross = layers.RMSNorm(config.width, rngs=rngs)
        self.cross = _attention(config, rngs)
        self.norm_mlp = layers.RMSNorm(config.width, rngs=rngs)
        self.mlp = _mlp(config, rngs)

    def __call__(self, x: Array, bias: Array, mask: Array, memory: Memory) -> Array:
        """All target positions at once: `x` [B, T, D]."""
        x = x + self.attention(self.norm_attention(x), bias, mask)
        cross = self.cross.keys_values(memory.x)
        x = x + self.cross.attend(self.norm_cross(x), cross, mask=memory.mask[:, None, None])
        return x + self.mlp(self.norm_mlp(x))

    def step(
        self, x: Array, own: tuple, cross: tuple, memory_mask: Array, position: Array, bias: Array
    ) -> tuple[Array, tuple]:
        """One target position: `x` [B, 1, D], caches [B, N, T, H]; returns the new own cache."""
        normed = self.norm_attention(x)
        new = self.attention.keys_values(normed)
        own = tuple(
            jax.lax.dynamic_update_slice_in_dim(c, layers.heads_first(n), position, axis=2)
            for c, n in zip(own, new, strict=True)
        )
        seen = (jnp.arange(own[0].shape[2]) <= position)[None, None, None]
        x = x + self.attention.attend_kept(normed, own, bias, seen)
        x = x + self.cross.attend_kept(self.norm_cross(x), cross, mask=memory_mask[:, None, None])
        return x + self.mlp(self.norm_mlp(x)), own


class EncoderDecoder(nnx.Module):
    """Embeddings in, hidden states out; the head turns hidden states into logits."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
        self.config = config
        # T5 draws embeddings at unit scale. A tied table is drawn at the head's scale instead and
        # scaled up where it is read (Vaswani et al. 2017, section 3.4), so that one learning rate
        # suits it and every other matrix.
        self.scale = config.width**0.5 if config.tied_head else 1.0
        shape = (config.rows, config.width)
        self.embedding = layers.param(rngs, shape, ("vocab", "embed"), 1 / self.scale)
        self.encoder_bias = RelativePosition(
            config.heads, True, look_away=config.mimetic, rngs=rngs
        )
        self.encoder = layers.stack(
            lambda rngs: EncoderLayer(config, rngs=rngs), config.encoder_layers, rngs
        )
        self.encoder_norm = layers.RMSNorm(config.width, rngs=rngs)
        self.decoder_bias = RelativePosition(config.heads, False, rngs=rngs)
        self.decoder = layers.stack(
            lambda rngs: DecoderLayer(config, rngs=rngs), config.decoder_layers, rngs
        )
        self.decoder_norm = layers.RMSNorm(config.width, rngs=rngs)
        self.head = self.transform = nnx.data(None)
        if config.tied_head:
            width = config.width
            self.transform = layers.Linear({"embed": width}, {"mlp": width}, bias=False, rngs=rngs)
        else:
            self.head = param_head(config, rngs)

    def embed(self, tokens: Array, dtype: jnp.dtype) -> Array:
        """int [B, L] -> [B, L, D]."""
        rows = partition.lookup(self.embedding[...], tokens) * self.scale
        return partition.by_rows(rows.astype(dtype))

    def encode(self, x: Array, mask: Array, remat: str) -> Memory:
        """`x` [B, S, D] with real positions `mask` bool [B, S]."""
        positions = jnp.arange(x.shape[1])
        bias = self.encoder_bias(positions, positions)
        allowed = mask[:, None, None, :]
        x = layers.run_stack(self.encoder, x, lambda layer, x: layer(x, bias, allowed), remat)
        return Memory(self.encoder_norm(x), mask)

    def decode(self, tokens: Array, memory: Memory, remat: str) -> Array:
        """Hidden states [B, T, D] at every position of decoder inputs `tokens` int [B, T]."""
        positions = jnp.arange(tokens.shape[1])
        bias = self.decoder_bias(positions, positions)
        causal = (positions[None, :] <= positions[:, None])[None, None]
        x = self.embed(tokens, memory.x.dtype)
        x = layers.run_stack(
            self.decoder, x, lambda layer, x: layer(x, bias, causal, memory), remat
        )
        return self.decoder_norm(x)

    def start(self, memory: Memory, length: int) -> Cache:
        """An empty cache for `length` target positions; the memory's keys are computed once."""

        def kept(layer, x, _):
            return x, tuple(map(layers.heads_first, layer.cross.keys_values(x)))

        def empty(x):
            return jnp.zeros((*x.shape[:2], length, x.shape[3]), x.dtype)

        _, cross = layers.scan_stack(self.decoder, kept, memory.x)
        own = (layers.each_layer(empty, x) for x in cross)
        return Cache(*own, *cross, memory.mask)

    def step(self, token: Array, position: Array, cache: Cache) -> tuple[Array, Cache]:
        """Hidden state [B, D] after decoder input `token` int [B] at `position` int []."""
        like = jax.tree.leaves(cache.own_key)[0]
        bias = self.decoder_bias(position[None], jnp.arange(like.shape[-2]))

        def layer_step(layer, x, caches):
            own, cross = caches[:2], caches[2:]
            return layer.step(x, own, cross, cache.memory_mask, position, bias)

        x = self.embed(token[:, None], like.dtype)
        x, (own_key, own_value) = layers.scan_stack(self.decoder, layer_step, x, cache[:4])
        return self.decoder_norm(x)[:, 0], cache._replace(own_key=own_key, own_value=own_value)

    def logits(self, hidden: Array, tokens: Array | None = None) -> Array:
        """float32 logits of hidden states [..., D]; see `layers.token_logits`."""
        # with a tied table and no transform (Devlin et al. 2019), a decoder begins by repeating
        # what it attends to
        head = self.embedding[...] if self.head is None else self.head[...]
        hidden = hidden if self.transform is None else self.transform(hidden)
        return layers.token_logits(head, hidden, self.config.vocab, tokens)


def param_head(config: TextConfig, rngs: nnx.Rngs) -> nnx.Param:
    """The output matrix [V, D], one row a token so that a few rows can be gathered."""
    shape = (config.rows, config.width)
    return layers.param(rngs, shape, ("vocab", "embed"), config.width**-0.5)
