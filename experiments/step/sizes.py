"""The three models that both sides train, and the batches they see. Plain numbers: no framework.

A size is ViT -> linear -> T5 v1.1, by its published dimensions where there are such.
"""

from __future__ import annotations

import dataclasses
import resource
from collections.abc import Iterator

import numpy as np


@dataclasses.dataclass(frozen=True)
class Size:
    """Both towers, and a batch of `rows` with `prefix` and `target` tokens a row."""

    image: int
    vision: dict[str, int]  # width, depth, mlp, heads
    text: dict[str, int]  # width, mlp, heads, head_dim, layers of each stack, vocab
    rows: int
    prefix: int = 32
    target: int = 32
    patch: int = 16


def _vision(width: int, depth: int, mlp: int, heads: int) -> dict[str, int]:
    return dict(width=width, depth=depth, mlp=mlp, heads=heads)


def _text(width: int, mlp: int, heads: int, layers: int, vocab: int) -> dict[str, int]:
    return dict(width=width, mlp=mlp, heads=heads, head_dim=64, layers=layers, vocab=vocab)


SIZES = {
    "debug": Size(32, _vision(128, 2, 256, 2), _text(128, 256, 2, 2, 256), rows=4),
    # ViT-Ti/16 at 128 pixels, four layers of T5
    "tiny": Size(128, _vision(192, 12, 768, 3), _text(192, 512, 3, 4, 8_192), rows=32),
    # ViT-S/16 at 128 pixels, T5 v1.1-small
    "small": Size(128, _vision(384, 12, 1536, 6), _text(512, 1024, 6, 8, 32_128), rows=8),
    # ViT-B/16 at 224 pixels, T5 v1.1-base
    "base": Size(224, _vision(768, 12, 3072, 12), _text(768, 2048, 12, 12, 32_128), rows=4),
}


def batches(size: Size) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches of noise, the same on every call; no token is padding."""
    rng = np.random.default_rng(0)
    pixels = (size.rows, 1, size.image, size.image, 3)
    while True:
        yield {
            "image": rng.integers(0, 256, pixels).astype(np.uint8),
            "prefix": rng.integers(1, size.text["vocab"], (size.rows, size.prefix), np.int32),
            "target": rng.integers(1, size.text["vocab"], (size.rows, size.target), np.int32),
            "has_image": np.ones(size.rows, bool),
            "source": np.zeros(size.rows, np.int32),
        }


def peak_mb() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
