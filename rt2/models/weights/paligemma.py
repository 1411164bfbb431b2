"""PaliGemma and Gemma as Hugging Face writes them, and PaliGemma as big_vision's npz.

Axes: v vocabulary, d width, h heads, k head dim, f MLP width, l layers, w vision width. Both keep
a norm's scale as its distance from one, as our model of Gemma does.
"""

from __future__ import annotations

from rt2.models.weights.layout import Layout, Row
from rt2.models.weights.vit import (
    BIG_VISION_DROPPED,
    BIG_VISION_RENAMES,
    NO_HEAD,
    big_vision_rows,
    linear,
    siglip_rows,
)

_GEMMA = "language_model.model"


def _gemma_rows() -> tuple[Row, ...]:
    theirs, layers = f"{_GEMMA}.layers.{{}}", "text/layers"
    split = {"query": "q", "key": "k", "value": "v"}
    mlp = {"gate": "gate", "wide": "up"}
    norms = {"norm_attention": "input_layernorm", "norm_mlp": "post_attention_layernorm"}
    return (
        Row("text/embedding", f"{_GEMMA}.embed_tokens.weight", "v d -> v d"),
        *(
            Row(
                f"{layers}/attention/{ours}/kernel",
                f"{theirs}.self_attn.{short}_proj.weight",
                "(h k) d -> d h k",
            )
            for ours, short in split.items()
        ),
        Row(
            f"{layers}/attention/out/kernel",
            f"{theirs}.self_attn.o_proj.weight",
            "d (h k) -> h k d",
        ),
        *(
            Row(f"{layers}/mlp/{ours}/kernel", f"{theirs}.mlp.{name}_proj.weight", "f d -> d f")
            for ours, name in mlp.items()
        ),
        Row(f"{layers}/mlp/out/kernel", f"{theirs}.mlp.down_proj.weight", "d f -> f d"),
        *(
            Row(f"{layers}/{ours}/scale", f"{theirs}.{name}.weight", "d -> d")
            for ours, name in norms.items()
        ),
        Row("text/norm/scale", f"{_GEMMA}.norm.weight", "d -> d"),
    )


_TIED = {"language_model.lm_head.weight": f"{_GEMMA}.embed_tokens.weight"}

GEMMA = Layout(
    name="Gemma (Hugging Face)",
    rows=_gemma_rows(),
    renames=(("model.", f"{_GEMMA}."), ("lm_head.", "language_model.lm_head.")),
    same=_TIED,
)

PALIGEMMA = Layout(
    name="PaliGemma (Hugging Face)",
    rows=(
        *siglip_rows("vision_tower."),
        *linear("projection", "multi_modal_projector.linear", "d w -> w d"),
        *_gemma_rows(),
    ),
    renames=(
        ("model.language_model.", f"{_GEMMA}."),
        ("model.", ""),
        ("vision_tower.vision_model.", "vision_tower."),
        ("lm_head.", "language_model.lm_head."),
    ),
    same=_TIED,
    dropped={
        r"vision_tower\.head\..*": NO_HEAD,
        r"vision_tower\.embeddings\.position_ids": "0, 1, 2, ...: no weights",
    },
)

_LAYERS = "llm/layers"

BIG_VISION_PALIGEMMA = Layout(
    name="PaliGemma (big_vision npz)",
    rows=(
        *big_vision_rows(scanned=True),
        Row("projection/kernel", "img/head/kernel", "w d -> w d"),
        Row("projection/bias", "img/head/bias", "d -> d"),
        Row("text/embedding", "llm/embedder/input_embedding", "v d -> v d"),
        Row(
            "text/layers/attention/query/kernel", f"{_LAYERS}/attn/q_einsum/w", "l h d k -> l d h k"
        ),
        Row(
            "text/layers/attention/key/kernel",
            f"{_LAYERS}/attn/kv_einsum/w",
            "l 0 h d k -> l d h k",
        ),
        Row(
            "text/layers/attention/value/kernel",
            f"{_LAYERS}/attn/kv_einsum/w",
            "l 1 h d k -> l d h k",
        ),
        Row(
            "text/layers/attention/out/kernel",
            f"{_LAYERS}/attn/attn_vec_einsum/w",
            "l h k d -> l h k d",
        ),
        Row("text/layers/mlp/gate/kernel", f"{_LAYERS}/mlp/gating_einsum", "l 0 d f -> l d f"),
        Row("text/layers/mlp/wide/kernel", f"{_LAYERS}/mlp/gating_einsum", "l 1 d f -> l d f"),
        Row("text/layers/mlp/out/kernel", f"{_LAYERS}/mlp/linear", "l f d -> l f d"),
        Row(
            "text/layers/norm_attention/scale", f"{_LAYERS}/pre_attention_norm/scale", "l d -> l d"
        ),
        Row("text/layers/norm_mlp/scale", f"{_LAYERS}/pre_ffw_norm/scale", "l d -> l d"),
        Row("text/norm/scale", "llm/final_norm/scale", "d -> d"),
    ),
    renames=BIG_VISION_RENAMES,
    dropped={r"opt/.*": BIG_VISION_DROPPED[r"opt/.*"]},
)
