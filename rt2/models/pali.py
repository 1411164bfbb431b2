"""The PaLI family: visual tokens and text into an encoder, text or actions out of a decoder.

Images pass through the ViT one by one; their n*k patch tokens are projected to the text width and
stand before the embedded text (Chen et al. 2023; RT-2, appendix D).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from rt2.models import layers
from rt2.models.encoder_decoder import Cache, EncoderDecoder, Memory, TextConfig
from rt2.models.vit import ViT, ViTConfig, normalise
from rt2.tokenizer import PAD

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class PaliConfig:
    """`dtype` is that of the computation; parameters and logits are float32."""

    vision: ViTConfig
    text: TextConfig
    dtype: str = "bfloat16"
    remat: bool = False


class Pali(nnx.Module):
    """Shapes: B batch, n images, S image size, L prefix, T target, V vocabulary, D text width."""

    def __init__(self, config: PaliConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.vision = ViT(config.vision, rngs=rngs)
        self.projection = layers.Linear(
            {"vision": config.vision.width}, {"embed": config.text.width}, bias=True, rngs=rngs
        )
        self.text = EncoderDecoder(config.text, rngs=rngs)

    def __call__(
        self, image: Array, prefix: Array, target: Array, has_image: Array | None = None
    ) -> Array:
        """Logits float32 [B, T, V] that predict `target` [B, T] from what stands before.

        image uint8 [B, n, S, S, 3]; prefix int32 [B, L] and target int32 [B, T], padded with 0.
        has_image bool [B]: where not, the pixels are filler that nothing attends to; None: all.
        """
        return self.text.logits(self.hidden(image, prefix, target, has_image))

    def hidden(
        self, image: Array, prefix: Array, target: Array, has_image: Array | None = None
    ) -> Array:
        """Decoder states [B, T, D] before the head."""
        start = jnp.full_like(target[:, :1], PAD)
        inputs = jnp.concatenate([start, target[:, :-1]], axis=1)
        return self.text.decode(inputs, self.encode(image, prefix, has_image), self.config.remat)

    def visual_tokens(self, image: Array) -> Array:
        """[B, n*k, D] of uint8 [B, n, S, S, 3]."""
        b, n = image.shape[:2]
        pixels = normalise(image.reshape(b * n, *image.shape[2:]), jnp.dtype(self.config.dtype))
        tokens = self.projection(self.vision(pixels, self.config.remat))
        return tokens.reshape(b, n * tokens.shape[1], tokens.shape[2])

    def encode(self, image: Array, prefix: Array, has_image: Array | None = None) -> Memory:
        """The memory that a decoder reads."""
        visual = self.visual_tokens(image)
        seen = jnp.ones(visual.shape[:2], bool)
        if has_image is not None:
            seen &= has_image[:, None]
        text = self.text.embed(prefix, visual.dtype)
        real = jnp.concatenate([seen, prefix != PAD], axis=1)
        return self.text.encode(jnp.concatenate([visual, text], axis=1), real, self.config.remat)

    def start(self, memory: Memory, length: int) -> Cache:
        """An empty cache for `length` target tokens."""
        return self.text.start(memory, length)

    def step(self, token: Array, position: Array, cache: Cache) -> tuple[Array, Cache]:
        """Hidden state [B, D] after `token` int [B]; the first token is pad."""
        return self.text.step(token, position, cache)

    def logits(self, hidden: Array, tokens: Array | None = None) -> Array:
        """Logits of every token, or of the ids `tokens` int [K] alone."""
        return self.text.logits(hidden, tokens)
