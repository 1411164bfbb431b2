"""What both sides decode: the models of experiments/step with a vocabulary. No framework."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sizes import SIZES, Size  # of experiments/step

VOCABULARIES = (32_128, 250_112)  # T5's table and that of mT5, UL2 and PaLI
SLOTS, BINS = 8, 256
INSTRUCTION = "push the green block to the red cup"


def case(name: str, vocab: int) -> Size:
    """The size `name` of experiments/step with another vocabulary."""
    size = SIZES[name]
    return dataclasses.replace(size, rows=1, text={**size.text, "vocab": vocab})


def files(folder: Path, name: str, vocab: int) -> tuple[Path, Path]:
    """Where the parameters and the inputs of a case lie."""
    return folder / f"{name}-{vocab}.safetensors", folder / f"{name}-{vocab}.npz"


def touched_bytes(size: Size) -> int:
    """Bytes of float32 weights that one constrained decoder step reads: matrices, norms and head.

    The keys and values of the cross-attention are left out: they belong to the observation.
    """
    text = size.text
    width, inner = text["width"], text["heads"] * text["head_dim"]
    layer = 6 * width * inner + 3 * width * text["mlp"] + 3 * width
    return 4 * (text["layers"] * layer + width * (BINS + 2))
