"""What a model computes by its formulas: two operations a multiply and add of a matrix product.

Norms, activations and softmax are left out, as is usual for model FLOPs utilisation (Chowdhery et
al. 2022, appendix B). Attention is counted whole, also where a mask hides half of it.
"""

from __future__ import annotations

import math

from rt2.models.build import Model
from rt2.models.decoder_only import DecoderConfig
from rt2.models.encoder_decoder import TextConfig
from rt2.models.vit import ViTConfig


def forward(model: Model, images: int, prefix: int, target: int) -> int:
    """Operations of one row's forward pass: `images` of them, prefix and target tokens.

    A training step computes three times as much, less what frozen parts save and without what
    recomputation adds.
    """
    vision, text = model.config.vision, model.config.text
    seen = images * vision.tokens
    passes = _vision_passes(vision, images) | {"projection/": seen}
    attended = images * _attention(vision, _with_class(vision))
    if isinstance(text, DecoderConfig):
        length = seen + prefix + target - 1
        passes |= {"text/layers/": length, "text/embedding": target}
        attended += text.layers * _products(text, length, length)
    else:
        memory = seen + prefix
        passes |= _text_passes(memory, target) | {_head(text): target}
        attended += text.encoder_layers * _products(text, memory, memory)
        attended += text.decoder_layers * _products(text, target, target + memory)
    return 2 * (attended + sum(_kernels(model, path) * times for path, times in passes.items()))


def _with_class(vision: ViTConfig) -> int:
    return vision.tokens + vision.class_token


def _vision_passes(vision: ViTConfig, images: int) -> dict[str, int]:
    """How often each kernel is applied, by the beginning of its path."""
    passes = {"vision/embed/": images * vision.tokens}
    passes["vision/blocks/"] = images * _with_class(vision)
    for i in range(len(vision.stem)):
        passes[f"vision/stem/{i}/"] = images * (vision.image_size >> (i + 1)) ** 2
    return passes


def _text_passes(memory: int, target: int) -> dict[str, int]:
    return {
        "text/encoder/": memory,
        "text/decoder/attention/": target,
        "text/decoder/cross/query/": target,
        "text/decoder/cross/out/": target,
        "text/decoder/cross/key/": memory,
        "text/decoder/cross/value/": memory,
        "text/decoder/mlp/": target,
        "text/transform/": target,
    }


def _head(text: TextConfig) -> str:
    return "text/embedding" if text.tied_head else "text/head"


def _kernels(model: Model, start: str) -> int:
    """Elements of the matrices below a path; a layer's biases and norms take part in none."""
    return sum(
        math.prod(shape.shape)
        for path, shape in model.shapes.items()
        if path.startswith(start) and path.split("/")[-1] in ("kernel", "embedding", "head")
    )


def _attention(vision: ViTConfig, length: int) -> int:
    return vision.depth * 2 * length * length * vision.width


def _products(text: TextConfig | DecoderConfig, queries: int, keys: int) -> int:
    """Multiplications of the two products of one layer's attention."""
    return 2 * queries * keys * text.heads * text.head_dim
