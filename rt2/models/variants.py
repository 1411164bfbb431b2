"""Every model size by name.

`debug` compiles in seconds, `tiny` learns the tabletop on a laptop CPU, `small` wants an
accelerator or an afternoon. The published sizes are added with their weights' importers.
"""

from __future__ import annotations

import dataclasses
import difflib

from rt2.errors import ConfigError
from rt2.models.encoder_decoder import TextConfig
from rt2.models.pali import PaliConfig
from rt2.models.vit import ViTConfig

_VISION = {
    "debug": ViTConfig(width=32, depth=2, mlp=64, heads=2, patch=16, image_size=64, stem=(8,)),
    "tiny": ViTConfig(
        width=192, depth=2, mlp=576, heads=4, patch=16, image_size=64, stem=(32, 64, 128)
    ),
    "small": ViTConfig(
        width=384, depth=6, mlp=1536, heads=6, patch=8, image_size=64, stem=(32, 64, 128)
    ),
}
_TEXT = {
    "debug": dict(
        width=32,
        mlp=64,
        heads=2,
        head_dim=16,
        encoder_layers=2,
        decoder_layers=2,
        tied_head=True,
        mimetic=True,
    ),
    "tiny": dict(
        width=192,
        mlp=384,
        heads=4,
        head_dim=48,
        encoder_layers=2,
        decoder_layers=1,
        tied_head=True,
        mimetic=True,
    ),
    "small": dict(
        width=384,
        mlp=1024,
        heads=6,
        head_dim=64,
        encoder_layers=4,
        decoder_layers=4,
        mimetic=True,
    ),
}
VARIANTS = tuple(_VISION)


def vision(variant: str, image_size: int) -> ViTConfig:
    """The vision tower of a named size; `image_size` 0 keeps the variant's own."""
    if variant not in VARIANTS:
        near = difflib.get_close_matches(variant, VARIANTS, 1)
        raise ConfigError(
            f"no model variant {variant!r}; known: {', '.join(VARIANTS)}"
            + (f". Did you mean {near[0]!r}?" if near else "")
        )
    tower = _VISION[variant]
    return dataclasses.replace(tower, image_size=image_size) if image_size else tower


def config(variant: str, *, vocab: int, dtype: str, remat: bool, image_size: int) -> PaliConfig:
    """The configuration of a named size for a tokenizer of `vocab` pieces."""
    tower = vision(variant, image_size)
    text = TextConfig(vocab=vocab, **_TEXT[variant])
    return PaliConfig(vision=tower, text=text, dtype=dtype, remat=remat)
