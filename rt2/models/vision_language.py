"""What the model families share: images through a vision tower into the embedded text.

A family adds `text` with its `embed` and `logits`, and the four ways to run it: `hidden` teaches
every target position at once; `encode`, `start` and `step` decode one token after another.
"""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rt2.models import layers
from rt2.models.vit import ViT, ViTConfig, normalise
from rt2.tokenizer import PAD

Array = jax.Array


class VisionLanguage(nnx.Module, abc.ABC):
    """Shapes: B batch, n images, S image size, L prefix, T target, V vocabulary, D text width."""

    text: Any

    def __init__(self, vision: ViTConfig, width: int, dtype: str, remat: str, *, rngs: nnx.Rngs):
        self.dtype, self.remat = dtype, remat
        self.vision = ViT(vision, rngs=rngs)
        self.projection = layers.Linear(
            {"vision": vision.width}, {"embed": width}, bias=True, rngs=rngs
        )

    def __call__(
        self, image: Array, prefix: Array, target: Array, has_image: Array | None = None
    ) -> Array:
        """Logits float32 [B, T, V] that predict `target` [B, T] from what stands before.

        image uint8 [B, n, S, S, 3]; prefix int32 [B, L] and target int32 [B, T], padded with 0.
        has_image bool [B]: where not, the pixels are filler that nothing attends to; None: all.
        """
        return self.logits(self.hidden(image, prefix, target, has_image))

    def logits(self, hidden: Array, tokens: Array | None = None) -> Array:
        """Logits of every token, or of the ids `tokens` int [K] alone."""
        return self.text.logits(hidden, tokens)

    @abc.abstractmethod
    def hidden(
        self, image: Array, prefix: Array, target: Array, has_image: Array | None = None
    ) -> Array:
        """States [B, T, D] before the head."""

    @abc.abstractmethod
    def encode(self, image: Array, prefix: Array, has_image: Array | None = None) -> Any:
        """The memory that decoding reads."""

    @abc.abstractmethod
    def start(self, memory: Any, length: int) -> Any:
        """An empty cache for `length` target tokens."""

    @abc.abstractmethod
    def step(self, token: Array, position: Array, cache: Any) -> tuple[Array, Any]:
        """State [B, D] after `token` int [B], and the new cache.

        `position` int [] counts from 0; the token before the first target is pad.
        """

    def visual_tokens(self, image: Array) -> Array:
        """[B, n*k, D] of uint8 [B, n, S, S, 3]."""
        b, n = image.shape[:2]
        pixels = normalise(image.reshape(b * n, *image.shape[2:]), jnp.dtype(self.dtype))
        tokens = self.projection(self.vision(pixels, self.remat))
        return tokens.reshape(b, n * tokens.shape[1], tokens.shape[2])

    def observation(
        self, image: Array, prefix: Array, has_image: Array | None
    ) -> tuple[Array, Array]:
        """Visual tokens and embedded prefix [B, n*k + L, D], and which of them are real."""
        visual = self.visual_tokens(image)
        seen = jnp.ones(visual.shape[:2], bool)
        if has_image is not None:
            seen &= has_image[:, None]
        text = self.text.embed(prefix, visual.dtype)
        real = jnp.concatenate([seen, prefix != PAD], axis=1)
        return jnp.concatenate([visual, text], axis=1), real
