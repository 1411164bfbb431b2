"""Vision towers: ViT and SigLIP as Hugging Face writes them, and big_vision's npz.

Axes: d width, h heads, k head dim, f MLP width, n positions, y x c a patch's rows, columns and
colours, l layers.
"""

from __future__ import annotations

import numpy as np

from rt2.models.weights.layout import Layout, Row

NO_HEAD = "a vision-language model takes every patch: the tower's own head is not used"
NO_TEXT = "the text tower of contrastive training is not used"


def class_token(_shape: tuple[int, ...], token: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """[d]: a class token [1, 1, d] with its position, the first of [1, n, d]."""
    return token[0, 0].astype(np.float32) + positions[0, 0].astype(np.float32)


def patch_positions(_shape: tuple[int, ...], positions: np.ndarray) -> np.ndarray:
    """[n - 1, d]: positions [1, n, d] without that of the class token."""
    return positions[0, 1:]


def linear(ours: str, theirs: str, how: str, bias: str = "d -> d") -> list[Row]:
    """Weight and bias of a PyTorch layer, `how` and `bias` being their axes."""
    return [
        Row(f"{ours}/kernel", f"{theirs}.weight", how),
        Row(f"{ours}/bias", f"{theirs}.bias", bias),
    ]


def _norm(ours: str, theirs: str) -> list[Row]:
    return [
        Row(f"{ours}/scale", f"{theirs}.weight", "d -> d"),
        Row(f"{ours}/bias", f"{theirs}.bias", "d -> d"),
    ]


def _block(prefix: str, norms: list[str], qkvo: list[str], mlp: list[str]) -> list[Row]:
    """A block from PyTorch's names of its layers, in our order."""
    blocks = "vision/blocks"
    rows = [
        *_norm(f"{blocks}/norm_attention", prefix + norms[0]),
        *_norm(f"{blocks}/norm_mlp", prefix + norms[1]),
        *linear(f"{blocks}/attention/out", prefix + qkvo[3], "d (h k) -> h k d"),
        *linear(f"{blocks}/mlp/wide", prefix + mlp[0], "f d -> d f", "f -> f"),
        *linear(f"{blocks}/mlp/out", prefix + mlp[1], "d f -> f d"),
    ]
    for name, theirs in zip(("query", "key", "value"), qkvo, strict=False):
        ours = f"{blocks}/attention/{name}"
        rows += linear(ours, prefix + theirs, "(h k) d -> d h k", "(h k) -> h k")
    return rows


_CLASS = ("embeddings.cls_token", "embeddings.position_embeddings")

VIT = Layout(
    name="ViT (Hugging Face)",
    rows=(
        Row("vision/class_token", _CLASS, class_token),
        Row("vision/position", "embeddings.position_embeddings", patch_positions),
        *linear("vision/embed", "embeddings.patch_embeddings.projection", "d c y x -> (y x c) d"),
        *_block(
            "encoder.layer.{}.",
            ["layernorm_before", "layernorm_after"],
            [
                *(f"attention.attention.{x}" for x in ("query", "key", "value")),
                "attention.output.dense",
            ],
            ["intermediate.dense", "output.dense"],
        ),
        *_norm("vision/norm", "layernorm"),
    ),
    renames=(("vit.", ""),),
    dropped={r"(pooler\.dense|classifier)\..*": NO_HEAD},
)


def siglip_rows(prefix: str) -> tuple[Row, ...]:
    """The rows of a SigLIP tower whose names begin with `prefix`."""
    return (
        Row("vision/position", f"{prefix}embeddings.position_embedding.weight", "n d -> n d"),
        *linear("vision/embed", f"{prefix}embeddings.patch_embedding", "d c y x -> (y x c) d"),
        *_block(
            f"{prefix}encoder.layers.{{}}.",
            ["layer_norm1", "layer_norm2"],
            [f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")],
            ["mlp.fc1", "mlp.fc2"],
        ),
        *_norm("vision/norm", f"{prefix}post_layernorm"),
    )


# a tower alone, as newer versions write it, has no prefix
_SIGLIP_ALONE = ("embeddings.", "encoder.", "post_layernorm.", "head.")

SIGLIP = Layout(
    name="SigLIP (Hugging Face)",
    rows=siglip_rows("vision_model."),
    renames=tuple((name, f"vision_model.{name}") for name in _SIGLIP_ALONE),
    dropped={
        r"vision_model\.head\..*": NO_HEAD,
        r"(text_model\..*|logit_scale|logit_bias)": NO_TEXT,
        r"vision_model\.embeddings\.position_ids": "0, 1, 2, ...: no weights",
    },
)


def big_vision_rows(scanned: bool) -> tuple[Row, ...]:
    """The rows of big_vision's ViT: `scanned` towers have one tensor for all layers."""
    block = "img/Transformer/encoderblock" + ("" if scanned else "_{}")
    attention, mlp = f"{block}/MultiHeadDotProductAttention_0", f"{block}/MlpBlock_0"
    layers = "l " if scanned else ""
    axes = {
        "norm_attention/scale": (f"{block}/LayerNorm_0/scale", "d"),
        "norm_attention/bias": (f"{block}/LayerNorm_0/bias", "d"),
        "attention/out/kernel": (f"{attention}/out/kernel", "h k d"),
        "attention/out/bias": (f"{attention}/out/bias", "d"),
        "norm_mlp/scale": (f"{block}/LayerNorm_1/scale", "d"),
        "norm_mlp/bias": (f"{block}/LayerNorm_1/bias", "d"),
        "mlp/wide/kernel": (f"{mlp}/Dense_0/kernel", "d f"),
        "mlp/wide/bias": (f"{mlp}/Dense_0/bias", "f"),
        "mlp/out/kernel": (f"{mlp}/Dense_1/kernel", "f d"),
        "mlp/out/bias": (f"{mlp}/Dense_1/bias", "d"),
    }
    for name in ("query", "key", "value"):
        axes[f"attention/{name}/kernel"] = (f"{attention}/{name}/kernel", "d h k")
        axes[f"attention/{name}/bias"] = (f"{attention}/{name}/bias", "h k")
    return (
        Row("vision/position", "img/pos_embedding", "0 n d -> n d"),
        Row("vision/embed/kernel", "img/embedding/kernel", "y x c d -> (y x c) d"),
        Row("vision/embed/bias", "img/embedding/bias", "d -> d"),
        *(
            Row(f"vision/blocks/{ours}", theirs, f"{layers}{how} -> {layers}{how}")
            for ours, (theirs, how) in axes.items()
        ),
        Row("vision/norm/scale", "img/Transformer/encoder_norm/scale", "d -> d"),
        Row("vision/norm/bias", "img/Transformer/encoder_norm/bias", "d -> d"),
    )


# a tower alone has no "img/"; training writes everything below "params/" and the optimizer beside
BIG_VISION_RENAMES = (
    ("params/", ""),
    *((name, f"img/{name}") for name in ("embedding/", "pos_embedding", "Transformer/")),
)
BIG_VISION_DROPPED = {
    r"(img/)?(head|MAPHead_0)/.*": NO_HEAD,
    r"txt/.*|t|b": NO_TEXT,
    r"opt/.*": "the state of their optimizer",
}


def _big_vision(scanned: bool) -> Layout:
    return Layout(
        name=f"ViT (big_vision npz{', layers in one' if scanned else ''})",
        rows=big_vision_rows(scanned),
        renames=BIG_VISION_RENAMES,
        dropped=BIG_VISION_DROPPED,
    )


BIG_VISION = _big_vision(scanned=False)
BIG_VISION_SCANNED = _big_vision(scanned=True)
