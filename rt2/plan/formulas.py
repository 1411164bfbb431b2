"""FLOPs of a model from its sizes alone: the reference for the count, and what MFU is measured by.

B rows, N visual tokens of an image, S memory positions, T target positions, d width, f MLP width,
a = heads x head size. A product of [m, k] and [k, n] is 2mkn. Attention counts every pair of
positions, masked or not, as it is computed. Norms, softmax and activations count nothing.
"""

from __future__ import annotations

from rt2.models.build import Config
from rt2.models.decoder_only import DecoderConfig
from rt2.models.encoder_decoder import TextConfig
from rt2.models.vit import ViTConfig


def forward_flops(
    config: Config, *, rows: int, images: int, prefix: int, target: int
) -> dict[str, int]:
    """FLOPs of one forward pass over a batch, by part of the model."""
    vision, text = config.vision, config.text
    memory = images * vision.tokens + prefix
    parts = {
        "vision": images * vision_flops(vision),
        "projection": 2 * images * vision.tokens * vision.width * text.width,
    }
    if isinstance(text, TextConfig):
        parts |= encoder_decoder_flops(text, memory, target)
    else:
        parts["decoder"] = decoder_flops(text, memory + target - 1)
    parts["head"] = 2 * target * text.width * text.rows
    if isinstance(text, TextConfig) and text.tied_head:
        parts["head"] += 2 * target * text.width**2
    return {name: rows * flops for name, flops in parts.items()}


def train_flops(config: Config, **sizes: int) -> int:
    """FLOPs that a training step needs, three times the forward pass; none for recomputation."""
    return 3 * sum(forward_flops(config, **sizes).values())


def vision_flops(config: ViTConfig) -> int:
    """Of one image."""
    n, d, f = config.tokens + config.class_token, config.width, config.mlp
    layer = 2 * n * (4 * d * d + 2 * d * f) + 4 * n * n * d
    total, side, channels = config.depth * layer, config.image_size, 3
    for outputs in config.stem:
        side //= 2
        total += 2 * 9 * channels * outputs * side**2
        channels = outputs
    inside = (config.patch >> len(config.stem)) ** 2 * channels
    return total + 2 * config.tokens * inside * d


def encoder_decoder_flops(config: TextConfig, s: int, t: int) -> dict[str, int]:
    """Of one row with S memory and T target positions."""
    d, f, a = config.width, config.mlp, config.heads * config.head_dim
    encoder = 2 * s * (4 * d * a + 3 * d * f) + 4 * s * s * a
    own = 2 * t * (4 * d * a + 3 * d * f) + 4 * t * t * a
    cross = 2 * t * 2 * d * a + 2 * s * 2 * d * a + 4 * t * s * a
    return {
        "encoder": config.encoder_layers * encoder,
        "decoder": config.decoder_layers * (own + cross),
    }


def decoder_flops(config: DecoderConfig, n: int) -> int:
    """Of one row of n positions, prefix and targets together."""
    d, f, k = config.width, config.mlp, config.head_dim
    a, shared = config.heads * k, config.kv_heads * k
    layer = 2 * n * (2 * d * a + 2 * d * shared + 3 * d * f) + 4 * n * n * a
    return config.layers * layer
