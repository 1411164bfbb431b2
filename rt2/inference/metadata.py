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
)


def public(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `Policy.metadata` that describe the model, as plain JSON values."""
    return {key: metadata[key] for key in PUBLIC_KEYS if key in metadata}
