"""Vision transformer: images to unpooled patch tokens (Dosovitskiy et al. 2021; big_vision).

Shapes: B batch, P patches, D width. No pooling: a vision-language model takes every patch (PaLI,
section 3).
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rt2.errors import ConfigError
from rt2.models import layers, partition


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """`stem` lists the channels of stride-2 3x3 convolutions before the patches are cut.

    Convolutions first make small towers trainable from little data (Xiao et al. 2021); the
    published towers have none. `parallel` is ViT-22B's block. `class_token` is for towers that were
    trained with one: the patches attend to it, and it is dropped at the end.
    """

    width: int
    depth: int
    mlp: int
    heads: int
    patch: int
    image_size: int
    stem: tuple[int, ...] = ()
    activation: str = "gelu"
    norm_epsilon: float = 1e-6
    parallel: bool = False
    class_token: bool = False

    @property
    def tokens(self) -> int:
        """Visual tokens of one image."""
        return (self.image_size // self.patch) ** 2


def _attention(config: ViTConfig, rngs: nnx.Rngs) -> layers.Attention:
    head_dim = config.width // config.heads
    return layers.Attention(
        config.width,
        config.heads,
        head_dim,
        bias=not config.parallel,
        scale=head_dim**-0.5,
        normalised=config.parallel,
        rngs=rngs,
    )


def _mlp(config: ViTConfig, rngs: nnx.Rngs) -> layers.MLP:
    return layers.MLP(config.width, config.mlp, layers.ACTIVATIONS[config.activation], rngs=rngs)


def _norm(config: ViTConfig, rngs: nnx.Rngs) -> layers.LayerNorm | layers.RMSNorm:
    if config.parallel:
        return layers.RMSNorm(config.width, rngs=rngs)
    return layers.LayerNorm(config.width, epsilon=config.norm_epsilon, rngs=rngs)


class Block(nnx.Module):
    """Pre-norm transformer block with biases."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        self.norm_attention = _norm(config, rngs)
        self.attention = _attention(config, rngs)
        self.norm_mlp = _norm(config, rngs)
        self.mlp = _mlp(config, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))


class ParallelBlock(nnx.Module):
    """ViT-22B's block: attention and MLP side by side off one norm (Dehghani et al. 2023).

    No norm has a bias or is centred, query and key are normalised, and of the matrices only those
    of the MLP have biases.
    """

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        self.norm = _norm(config, rngs)
        self.attention = _attention(config, rngs)
        self.mlp = _mlp(config, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        normed = self.norm(x)
        return x + self.attention(normed) + self.mlp(normed)


class Convolution(nnx.Module):
    """3x3 convolution of stride 2 with a gelu: [B, h, w, C] -> [B, h/2, w/2, C']."""

    def __init__(self, channels_in: int, channels: int, *, rngs: nnx.Rngs):
        self.kernel = layers.param(
            rngs,
            (3, 3, channels_in, channels),
            (None, None, None, "embed"),
            (2 / (9 * channels_in)) ** 0.5,
        )
        self.bias = layers.param(rngs, (channels,), ("embed",), 0.0)

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.kernel[...].astype(x.dtype)
        y = jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.gelu(y + self.bias[...].astype(x.dtype))


class ViT(nnx.Module):
    """[B, S, S, 3] in -1..1 -> [B, P, D]."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        shrink = 2 ** len(config.stem)
        if config.image_size % config.patch or config.patch % shrink:
            raise ValueError(
                f"image_size {config.image_size} must be a multiple of patch {config.patch}, and "
                f"patch of {shrink} (the stem's stride)"
            )
        self.patch = config.patch // shrink
        channels = (3, *config.stem)
        self.stem = nnx.List(
            [Convolution(a, b, rngs=rngs) for a, b in zip(channels, channels[1:], strict=False)]
        )
        self.embed = layers.Linear(
            {"patch": self.patch**2 * channels[-1]}, {"embed": config.width}, bias=True, rngs=rngs
        )
        std = config.width**-0.5
        self.position = layers.param(rngs, (config.tokens, config.width), (None, "embed"), std)
        self.class_token = nnx.data(None)
        if config.class_token:  # its own position embedding included
            self.class_token = layers.param(rngs, (config.width,), ("embed",), std)
        block = ParallelBlock if config.parallel else Block
        self.blocks = layers.stack(lambda rngs: block(config, rngs=rngs), config.depth, rngs)
        self.norm = _norm(config, rngs)

    def __call__(self, image: jax.Array, remat: str) -> jax.Array:
        for convolution in self.stem:
            image = convolution(image)
        b, h, w, c = image.shape
        p = self.patch
        x = image.reshape(b, h // p, p, w // p, p, c).transpose(0, 1, 3, 2, 4, 5)
        x = self.embed(x.reshape(b, (h // p) * (w // p), p * p * c))
        x = x + partition.gathered(self.position[...].astype(x.dtype), (None, "embed"))
        if self.class_token is not None:
            first = jnp.broadcast_to(self.class_token[...].astype(x.dtype), (b, 1, x.shape[-1]))
            x = jnp.concatenate([first, x], axis=1)
        x = layers.run_stack(self.blocks, partition.by_rows(x), lambda block, x: block(x), remat)
        x = x if self.class_token is None else x[:, 1:]
        return self.norm(x)


def normalise(image: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """uint8 0..255 -> `dtype` -1..1."""
    return jnp.asarray(image).astype(dtype) / 127.5 - 1


def resample_positions(table: jax.Array, tokens: int) -> jax.Array:
    """Position embeddings [P, D] of a square image for one of `tokens` patches: [tokens, D].

    Linear between the old positions, corners on corners (big_vision). ConfigError where either is
    no square.
    """
    for count in (len(table), tokens):
        if math.isqrt(count) ** 2 != count:
            raise ConfigError(f"{count} position embeddings are those of no square image")
    old, new = math.isqrt(len(table)), math.isqrt(tokens)
    if old == new:
        return table
    at = np.linspace(0, old - 1, new)
    mix = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(old))).astype(np.float32)
    grid = jnp.einsum("ai,bj,ijd->abd", mix, mix, table.reshape(old, old, -1))
    return grid.reshape(tokens, -1)
