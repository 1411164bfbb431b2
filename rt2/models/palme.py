"""The PaLM-E family: visual tokens and text as the prefix of one decoder (Driess et al. 2023).

The same family holds PaliGemma (Beyer et al. 2024), whose prefix is the question between a
beginning piece and a newline (`config.prompt`). Images and prefix see each other whole, targets are
causal, and the first target is predicted by the last token of the prefix.
"""

from __future__ import annotations

import dataclasses

import jax
from flax import nnx

from rt2.models.decoder_only import Cache, DecoderConfig, DecoderOnly, Memory
from rt2.models.vision_language import VisionLanguage
from rt2.models.vit import ViTConfig

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class PalmeConfig:
    """`dtype` is that of the computation; parameters and logits are float32."""

    vision: ViTConfig
    text: DecoderConfig
    dtype: str = "bfloat16"
    remat: str = "none"


class Palme(VisionLanguage):
    """Vision tower, projection and decoder."""

    def __init__(self, config: PalmeConfig, *, rngs: nnx.Rngs):
        super().__init__(config.vision, config.text.width, config.dtype, config.remat, rngs=rngs)
        self.config = config
        self.text = DecoderOnly(config.text, rngs=rngs)

    def hidden(
        self, image: Array, prefix: Array, target: Array, has_image: Array | None = None
    ) -> Array:
        """States [B, T, D] before the head."""
        x, real = self.observation(image, prefix, has_image)
        return self.text.hidden(x, real, target[:, :-1], self.remat)

    def encode(self, image: Array, prefix: Array, has_image: Array | None = None) -> Memory:
        """Keys and values of image and prefix."""
        return self.text.encode(*self.observation(image, prefix, has_image))

    def start(self, memory: Memory, length: int) -> Cache:
        """A cache for `length` target tokens."""
        return self.text.start(memory, length)

    def step(self, token: Array, position: Array, cache: Cache) -> tuple[Array, Cache]:
        """State [B, D] after `token` int [B]; at position 0, which has no token, the prefix's."""
        return jax.lax.cond(
            position == 0,
            lambda: (cache.first, cache),
            lambda: self.text.step(token, position, cache),
        )
