"""The PaLI family: visual tokens and text into an encoder, text or actions out of a decoder.

Images pass through the ViT one by one; their n*k patch tokens are projected to the text width and
stand before the embedded text (Chen et al. 2023; RT-2, appendix D).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from rt2.models.encoder_decoder import Cache, EncoderDecoder, Memory, TextConfig
from rt2.models.vision_language import VisionLanguage
from rt2.models.vit import ViTConfig
from rt2.tokenizer import PAD

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class PaliConfig:
    """`dtype` is that of the computation; parameters and logits are float32."""

    vision: ViTConfig
    text: TextConfig
    dtype: str = "bfloat16"
    remat: str = "none"


class Pali(VisionLanguage):
    """Vision tower, projection and encoder-decoder."""

    def __init__(self, config: PaliConfig, *, rngs: nnx.Rngs):
        super().__init__(config.vision, config.text.width, config.dtype, config.remat, rngs=rngs)
        self.config = config
        self.text = EncoderDecoder(config.text, rngs=rngs)

    def hidden(
        self, image: Array, prefix: Array, target: Array, has_image: Array | None = None
    ) -> Array:
        """Decoder states [B, T, D] before the head."""
        start = jnp.full_like(target[:, :1], PAD)
        inputs = jnp.concatenate([start, target[:, :-1]], axis=1)
        return self.text.decode(inputs, self.encode(image, prefix, has_image), self.remat)

    def encode(self, image: Array, prefix: Array, has_image: Array | None = None) -> Memory:
        """The memory that a decoder reads."""
        return self.text.encode(*self.observation(image, prefix, has_image), self.remat)

    def start(self, memory: Memory, length: int) -> Cache:
        """An empty cache for `length` target tokens."""
        return self.text.start(memory, length)

    def step(self, token: Array, position: Array, cache: Cache) -> tuple[Array, Cache]:
        """Hidden state [B, D] after `token` int [B]; the first token is pad."""
        return self.text.step(token, position, cache)
