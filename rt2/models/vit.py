"""Vision transformer: images to unpooled patch tokens (Dosovitskiy et al. 2021; big_vision).

Shapes: B batch, P patches, D width. No class token and no pooling: a vision-language model
takes every patch (PaLI, section 3).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from rt2.models import layers


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """`stem` lists the channels of stride-2 3x3 convolutions before the patches are cut.

    Convolutions first make small towers trainable from little data (Xiao et al. 2021); the
    published towers have none.
    """

    width: int
    depth: int
    mlp: int
    heads: int
    patch: int
    image_size: int
    stem: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """Visual tokens of one image."""
        return (self.image_size // self.patch) ** 2


class Block(nnx.Module):
    """Pre-norm transformer block with biases."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        head_dim = config.width // config.heads
        self.norm_attention = layers.LayerNorm(config.width, rngs=rngs)
        self.attention = layers.Attention(
            config.width, config.heads, head_dim, bias=True, scale=head_dim**-0.5, rngs=rngs
        )
        self.norm_mlp = layers.LayerNorm(config.width, rngs=rngs)
        self.mlp = layers.MLP(config.width, config.mlp, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))


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
        self.position = layers.param(
            rngs, (config.tokens, config.width), (None, "embed"), config.width**-0.5
        )
        self.blocks = layers.stack(lambda rngs: Block(config, rngs=rngs), config.depth, rngs)
        self.norm = layers.LayerNorm(config.width, rngs=rngs)

    def __call__(self, image: jax.Array, remat: bool) -> jax.Array:
        for convolution in self.stem:
            image = convolution(image)
        b, h, w, c = image.shape
        p = self.patch
        x = image.reshape(b, h // p, p, w // p, p, c).transpose(0, 1, 3, 2, 4, 5)
        x = self.embed(x.reshape(b, (h // p) * (w // p), p * p * c))
        x = x + self.position[...].astype(x.dtype)
        x = layers.run_stack(self.blocks, x, lambda block, x: block(x), remat)
        return self.norm(x)


def normalise(image: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """uint8 0..255 -> `dtype` -1..1."""
    return jnp.asarray(image).astype(dtype) / 127.5 - 1
