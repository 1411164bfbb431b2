"""What public checkpoints hold: their names and shapes, and random tensors of that form.

Written from the models' own code, apart from the tables that import them: the tests and the
rehearsal of a large import start from here.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from rt2.models.decoder_only import DecoderConfig
from rt2.models.encoder_decoder import TextConfig
from rt2.models.palme import PalmeConfig
from rt2.models.vit import ViTConfig

Shapes = dict[str, tuple[int, ...]]


def t5(config: TextConfig) -> Shapes:
    """T5 v1.1, mT5, Flan-T5 or UL2 in Hugging Face safetensors."""
    width, inner = config.width, config.heads * config.head_dim
    shapes = {"shared.weight": (config.rows, width), "lm_head.weight": (config.rows, width)}
    sublayers = {"encoder": ["SelfAttention"], "decoder": ["SelfAttention", "EncDecAttention"]}
    depth = {"encoder": config.encoder_layers, "decoder": config.decoder_layers}
    for side, attentions in sublayers.items():
        first = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        shapes[first] = (32, config.heads)
        shapes[f"{side}.final_layer_norm.weight"] = (width,)
        for block in range(depth[side]):
            for i, attention in enumerate(attentions):
                layer = f"{side}.block.{block}.layer.{i}"
                shapes[f"{layer}.layer_norm.weight"] = (width,)
                for name in "qkv":
                    shapes[f"{layer}.{attention}.{name}.weight"] = (inner, width)
                shapes[f"{layer}.{attention}.o.weight"] = (width, inner)
            layer = f"{side}.block.{block}.layer.{len(attentions)}"
            shapes[f"{layer}.layer_norm.weight"] = (width,)
            for name in ("wi_0", "wi_1"):
                shapes[f"{layer}.DenseReluDense.{name}.weight"] = (config.mlp, width)
            shapes[f"{layer}.DenseReluDense.wo.weight"] = (width, config.mlp)
    return shapes


def vit(config: ViTConfig) -> Shapes:
    """A Hugging Face ViT, with its class token and without a head."""
    width, patch = config.width, config.patch
    shapes = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.position_embeddings": (1, config.tokens + 1, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, patch, patch),
        "embeddings.patch_embeddings.projection.bias": (width,),
    }
    for layer in range(config.depth):
        block = f"encoder.layer.{layer}"
        for name in ("layernorm_before", "layernorm_after"):
            shapes |= _pair(f"{block}.{name}", (width,))
        for name in ("attention.query", "attention.key", "attention.value", "output.dense"):
            shapes |= _pair(f"{block}.attention.{name}", (width, width))
        shapes |= _pair(f"{block}.intermediate.dense", (config.mlp, width))
        shapes |= _pair(f"{block}.output.dense", (width, config.mlp))
    return shapes | _pair("layernorm", (width,))


def siglip(config: ViTConfig, prefix: str = "vision_model.") -> Shapes:
    """A Hugging Face SigLIP vision tower without its head."""
    width, patch = config.width, config.patch
    shapes = {f"{prefix}embeddings.position_embedding.weight": (config.tokens, width)}
    shapes |= _pair(f"{prefix}embeddings.patch_embedding", (width, 3, patch, patch))
    for layer in range(config.depth):
        block = f"{prefix}encoder.layers.{layer}"
        for name in ("layer_norm1", "layer_norm2"):
            shapes |= _pair(f"{block}.{name}", (width,))
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _pair(f"{block}.self_attn.{name}", (width, width))
        shapes |= _pair(f"{block}.mlp.fc1", (config.mlp, width))
        shapes |= _pair(f"{block}.mlp.fc2", (width, config.mlp))
    return shapes | _pair(f"{prefix}post_layernorm", (width,))


def gemma(config: DecoderConfig, prefix: str = "model.") -> Shapes:
    """A Hugging Face Gemma; its head is its embedding."""
    width, queries = config.width, config.heads * config.head_dim
    shapes: Shapes = {f"{prefix}embed_tokens.weight": (config.rows, width)}
    for layer in range(config.layers):
        block = f"{prefix}layers.{layer}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{block}.{name}.weight"] = (width,)
        shapes[f"{block}.self_attn.q_proj.weight"] = (queries, width)
        for name in "kv":
            keys = config.kv_heads * config.head_dim
            shapes[f"{block}.self_attn.{name}_proj.weight"] = (keys, width)
        shapes[f"{block}.self_attn.o_proj.weight"] = (width, queries)
        for name in ("gate", "up"):
            shapes[f"{block}.mlp.{name}_proj.weight"] = (config.mlp, width)
        shapes[f"{block}.mlp.down_proj.weight"] = (width, config.mlp)
    return shapes | {f"{prefix}norm.weight": (width,)}


def paligemma(config: PalmeConfig) -> Shapes:
    """A Hugging Face PaliGemma, under the names of the published files."""
    projection = (config.text.width, config.vision.width)
    return (
        siglip(config.vision, "vision_tower.vision_model.")
        | _pair("multi_modal_projector.linear", projection)
        | gemma(config.text, "language_model.model.")
    )


def _pair(name: str, shape: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def random_tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """float32 tensors that depend on their names alone, scaled so that every one matters."""
    return {name: random_tensor(name, shape) for name, shape in shapes.items()}


def random_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Matrices of unit gain, vectors about 0.2, T5's and LayerNorm's scales about one."""
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
    if len(shape) == 1:
        about_one = (
            name.endswith("weight") and "model.layers" not in name and "model.norm" not in name
        )
        return 0.2 * drawn + about_one
    return drawn / np.sqrt(np.float32(np.prod(shape[1:])))
