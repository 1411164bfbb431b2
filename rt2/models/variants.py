"""Every model size by name, the published ones with the sizes of their papers.

`debug`, `palme_debug` and `paligemma_debug` compile in seconds, `tiny` learns the tabletop on a
laptop CPU and `mini` is half of it, `small` wants an accelerator or an afternoon. The others are a
vision tower, a text model and the projection between them, with as many parameters as
tests/models/test_variants.py counts:

| assembly       | vision    | text      | parameters     |                                    |
| -------------- | --------- | --------- | -------------- | ---------------------------------- |
| `base`         | B/16      | T5 base   | 333,965,568    | SigLIP B/16 and T5 v1.1 fill it    |
| `base_vit`     | ViT-B/16  | T5 base   | 333,966,336    | ViT with its class token, T5 v1.1  |
| `pali_3b`      | G/14      | mT5 large | 3,074,058,624  | PaLI                               |
| `pali3_5b`     | G/14      | UL2-3B    | 4,695,939,456  | PaLI-3, RT-2 on Language-Table     |
| `palix_55b`    | 22B/14    | UL2 50+50 | 54,024,360,960 | PaLI-X                             |
| `palme_12b`    | e/14      | PaLM-8B   | 12,444,774,656 | PaLM-E                             |
| `paligemma_3b` | So400m/14 | Gemma-2B  | 2,923,335,408  | PaliGemma's weights fill it        |

Assumed, where papers are silent: UL2-3B has the shape of T5 XL, the 50+50 layers those of UL2-20B
(both give the published totals), RT-2-PaLI-X-5B is `pali3_5b`, and PaLM's norms, like ViT-22B's,
have neither bias nor centring.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable

from rt2.errors import ConfigError
from rt2.models.build import Config
from rt2.models.decoder_only import DecoderConfig
from rt2.models.encoder_decoder import TextConfig
from rt2.models.layers import REMAT
from rt2.models.pali import PaliConfig
from rt2.models.palme import PalmeConfig
from rt2.models.vit import ViTConfig


def _vit(width: int, depth: int, mlp: int, heads: int, patch: int = 14, **more) -> ViTConfig:
    return ViTConfig(width, depth, mlp, heads, patch, image_size=224, **more)


VISION = {
    "debug": ViTConfig(width=32, depth=2, mlp=64, heads=2, patch=16, image_size=64, stem=(8,)),
    "siglip_debug": ViTConfig(width=32, depth=2, mlp=64, heads=2, patch=16, image_size=64),
    "tiny": ViTConfig(
        width=192, depth=2, mlp=576, heads=4, patch=16, image_size=64, stem=(32, 64, 128)
    ),
    "mini": ViTConfig(
        width=128, depth=2, mlp=384, heads=4, patch=16, image_size=64, stem=(32, 64, 128)
    ),
    "small": ViTConfig(
        width=384, depth=6, mlp=1536, heads=6, patch=8, image_size=64, stem=(32, 64, 128)
    ),
    # Zhai et al. 2022, table 2; Alabdulmohsin et al. 2023; Chen et al. 2023; Dehghani et al. 2023
    "B/16": _vit(768, 12, 3072, 12, patch=16),  # 85,797,120
    # as its Hugging Face weights were trained and converted
    "ViT-B/16": _vit(
        768,
        12,
        3072,
        12,
        patch=16,
        class_token=True,
        activation="gelu_exact",
        norm_epsilon=1e-12,
    ),  # 85,797,888
    "L/16": _vit(1024, 24, 4096, 16, patch=16),  # 303,299,584
    "So400m/14": _vit(1152, 27, 4304, 16),  # 412,442,352
    "g/14": _vit(1408, 40, 6144, 16),  # 1,011,199,616
    "G/14": _vit(1664, 48, 8192, 16),  # 1,842,772,352
    "e/14": _vit(1792, 56, 15360, 16),  # 3,805,417,728
    "22B/14": _vit(6144, 48, 24576, 48, parallel=True),  # 21,750,251,520
}

T5_ROWS, MT5_ROWS = 32_128, 250_112  # of the published tables; their tokenizers have fewer pieces


def _t5(width: int, mlp: int, heads: int, layers: int, rows: int, **more) -> TextConfig:
    return TextConfig(width, mlp, heads, 64, layers, layers, vocab=rows, **more)


def _ul2(layers: int, rows: int) -> TextConfig:
    return TextConfig(4096, 16384, 16, 256, layers, layers, vocab=rows, activation="silu")


# a `vocab` of 0 takes the tokenizer's
TEXT = {
    "debug": TextConfig(
        width=32,
        mlp=64,
        heads=2,
        head_dim=16,
        encoder_layers=2,
        decoder_layers=2,
        vocab=0,
        tied_head=True,
        mimetic=True,
    ),
    "tiny": TextConfig(
        width=192,
        mlp=384,
        heads=4,
        head_dim=48,
        encoder_layers=2,
        decoder_layers=1,
        vocab=0,
        tied_head=True,
        mimetic=True,
    ),
    "mini": TextConfig(
        width=128,
        mlp=256,
        heads=4,
        head_dim=32,
        encoder_layers=2,
        decoder_layers=1,
        vocab=0,
        tied_head=True,
        mimetic=True,
    ),
    "small": TextConfig(
        width=384,
        mlp=1024,
        heads=6,
        head_dim=64,
        encoder_layers=4,
        decoder_layers=4,
        vocab=0,
        mimetic=True,
    ),
    # Raffel et al. 2020 (version 1.1); Xue et al. 2021; Tay et al. 2023
    "T5 base": _t5(768, 2048, 12, 12, T5_ROWS),  # 247,577,856
    "T5 large": _t5(1024, 2816, 16, 24, T5_ROWS),  # 783,150,080
    "T5 XL": _t5(2048, 5120, 32, 24, T5_ROWS),  # 2,849,757,184
    "T5 XXL": _t5(4096, 10240, 64, 24, T5_ROWS),  # 11,135,332,352
    "mT5 base": _t5(768, 2048, 12, 12, MT5_ROWS),  # 582,401,280
    "mT5 large": _t5(1024, 2816, 16, 24, MT5_ROWS),  # 1,229,581,312
    "mT5 XL": _t5(2048, 5120, 32, 24, MT5_ROWS),  # 3,742,619,648
    "mT5 XXL": _t5(4096, 10240, 64, 24, MT5_ROWS),  # 12,921,057,280
    "UL2-3B": _t5(2048, 5120, 32, 24, T5_ROWS, activation="silu"),  # 2,849,757,184
    "UL2-20B": _ul2(32, T5_ROWS),  # 19,591,209,984
    "UL2 50+50": _ul2(50, MT5_ROWS),  # 32,248,939,520
    "palme_debug": DecoderConfig(32, 64, 2, 1, 16, 2, vocab=0, activation="silu", parallel=True),
    "gemma_debug": DecoderConfig(32, 64, 2, 1, 16, 2, vocab=0, activation="gelu", parallel=False),
    # Chowdhery et al. 2022: 8,632,012,800; Gemma Team 2024: 2,508,531,712 with PaliGemma's 256,000
    # pieces, 1,024 places and 128 segments
    "PaLM-8B": DecoderConfig(
        4096, 16384, 16, 1, 256, 32, vocab=256_000, activation="silu", parallel=True
    ),
    "Gemma-2B": DecoderConfig(
        2048, 16384, 8, 1, 256, 18, vocab=257_152, activation="gelu", parallel=False
    ),
}

VARIANTS = {
    "debug": ("debug", "debug"),
    "tiny": ("tiny", "tiny"),
    "mini": ("mini", "mini"),
    "small": ("small", "small"),
    "base": ("B/16", "T5 base"),
    "base_vit": ("ViT-B/16", "T5 base"),
    "pali_3b": ("G/14", "mT5 large"),
    "pali3_5b": ("G/14", "UL2-3B"),
    "palix_55b": ("22B/14", "UL2 50+50"),
    "palme_debug": ("debug", "palme_debug"),
    "paligemma_debug": ("siglip_debug", "gemma_debug"),
    "palme_12b": ("e/14", "PaLM-8B"),
    "paligemma_3b": ("So400m/14", "Gemma-2B"),
}
"""Assembly -> (vision tower, text model)."""


def vision(variant: str, image_size: int) -> ViTConfig:
    """The vision tower of a named assembly; `image_size` 0 keeps its own.

    Raises ConfigError for an unknown name, and for a size that the patches do not fill.
    """
    if variant not in VARIANTS:
        raise ConfigError(_unknown("config.model.variant", variant, VARIANTS))
    tower = VISION[VARIANTS[variant][0]]
    if not image_size:
        return tower
    below = image_size // tower.patch * tower.patch
    if image_size < tower.patch or image_size != below:
        sizes = sorted({max(size, tower.patch) for size in (below, below + tower.patch)})
        raise ConfigError(
            f"config.model.image_size={image_size}: no whole number of patches of {tower.patch} "
            f"pixels; nearest: {', '.join(map(str, sizes))}"
        )
    return dataclasses.replace(tower, image_size=image_size)


def config(variant: str, *, vocab: int, dtype: str, remat: str, image_size: int) -> Config:
    """The configuration of a named assembly for a tokenizer of `vocab` pieces.

    A published text model keeps the rows of its published tables; those that the tokenizer does not
    reach are never predicted. A tokenizer with more pieces extends the tables.
    """
    if remat not in REMAT:
        raise ConfigError(_unknown("config.model.remat", remat, REMAT))
    tower = vision(variant, image_size)
    size = TEXT[VARIANTS[variant][1]]
    text = dataclasses.replace(size, vocab=vocab, table=size.vocab)
    family = PalmeConfig if isinstance(text, DecoderConfig) else PaliConfig
    return family(vision=tower, text=text, dtype=dtype, remat=remat)


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    hint = f". Did you mean {near[0]!r}?" if near else ""
    return f"{what}: no {name!r}; known: {', '.join(known)}{hint}"
