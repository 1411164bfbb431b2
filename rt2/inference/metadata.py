"""What of a policy's metadata may leave the machine that serves or exports it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Named one by one: metadata may also hold paths of the machine that trained the model.
PUBLIC_KEYS = (
    "datasets",
    "dataset",
    "image_size",
    "history",
    "cameras",
    "action_vocabulary",
    "tokenizer",
    "step",
    "decoding",
    "weights",
)

WEIGHTS = ("f32", "bf16", "int8")


def public(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `Policy.metadata` that describe the model, as plain JSON values."""
    return {key: metadata[key] for key in PUBLIC_KEYS if key in metadata}


def weights_sentence(said: Mapping[str, Any]) -> str:
    """What `metadata["weights"]` says, for a person; see `narrowing.narrowed`."""
    if "tokens" not in said:
        return f"weights: {said['kind']}"
    return (
        f"weights: {said['kind']}; of {said['tokens']} held-out action tokens, {said['agreeing']} "
        f"({said['agreeing'] / said['tokens']:.1%}) are those of f32, and the numbers of an action "
        f"move by {said['moved']:.2%} of their range on average"
    )
