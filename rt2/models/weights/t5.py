"""T5 v1.1, mT5, Flan-T5 and UL2 as Hugging Face writes them.

Axes: v vocabulary, d width, h heads, k head dim, f MLP width, b buckets of relative positions.
"""

from __future__ import annotations

from rt2.models.weights.layout import Layout, Row


def _attention(ours: str, theirs: str) -> list[Row]:
    split = {"query": "q", "key": "k", "value": "v"}
    return [
        *(
            Row(f"{ours}/{name}/kernel", f"{theirs}.{short}.weight", "(h k) d -> d h k")
            for name, short in split.items()
        ),
        Row(f"{ours}/out/kernel", f"{theirs}.o.weight", "d (h k) -> h k d"),
    ]


def _mlp(ours: str, theirs: str) -> list[Row]:
    return [
        Row(f"{ours}/gate/kernel", f"{theirs}.wi_0.weight", "f d -> d f"),
        Row(f"{ours}/wide/kernel", f"{theirs}.wi_1.weight", "f d -> d f"),
        Row(f"{ours}/out/kernel", f"{theirs}.wo.weight", "d f -> f d"),
    ]


def _stack(side: str, sublayers: tuple[str, ...]) -> list[Row]:
    """The rows of one stack; `sublayers` are ours in the order in which T5 numbers them."""
    block = f"{side}.block.{{}}.layer"
    theirs = {"attention": "SelfAttention", "cross": "EncDecAttention", "mlp": "DenseReluDense"}
    rows = [
        Row(
            f"text/{side}_bias/table",
            f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            "b h -> b h",
        ),
        Row(f"text/{side}_norm/scale", f"{side}.final_layer_norm.weight", "d -> d"),
    ]
    for i, name in enumerate(sublayers):
        make = _mlp if name == "mlp" else _attention
        rows.append(
            Row(f"text/{side}/norm_{name}/scale", f"{block}.{i}.layer_norm.weight", "d -> d")
        )
        rows += make(f"text/{side}/{name}", f"{block}.{i}.{theirs[name]}")
    return rows


T5 = Layout(
    name="T5 v1.1 (Hugging Face)",
    rows=(
        Row("text/embedding", "shared.weight", "v d -> v d"),
        Row("text/head", "lm_head.weight", "v d -> v d"),
        *_stack("encoder", ("attention", "mlp")),
        *_stack("decoder", ("attention", "cross", "mlp")),
    ),
    same={
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
    },
    dropped={
        r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight": (
            "cross-attention has no position bias; early conversions wrote one that nothing reads"
        ),
    },
)
