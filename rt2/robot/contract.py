"""What a robot was set up for: the fields of a server's greeting that may not change unnoticed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rt2.errors import UserError

MODEL_FIELDS = ("model", "tokenizer", "action_vocabulary", "image_size", "history", "cameras")


class ContractError(UserError):
    """A server whose model is not the one the robot was set up for; the message names the field."""


def terms(greeting: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """The pinned fields of a greeting, plain JSON values: keep them in a file with the robot.

    Raises ContractError where the server does not know `dataset` or leaves a field out.
    """
    known = greeting.get("datasets", {})
    if dataset not in known:
        raise ContractError(f"dataset: the server knows {sorted(known)}, not {dataset!r}")
    missing = [name for name in MODEL_FIELDS if name not in greeting]
    if missing:
        raise ContractError(f"{missing[0]}: not in the server's greeting; is it of this project?")
    return {
        **{name: greeting[name] for name in MODEL_FIELDS},
        "dataset": dataset,
        "actions": dict(known[dataset]),
    }


def check(greeting: Mapping[str, Any], pinned: Mapping[str, Any]) -> None:
    """Raises ContractError naming the first pinned field that the server announces otherwise."""
    announced = terms(greeting, pinned["dataset"])
    flat = {name: (announced[name], pinned[name]) for name in announced if name != "actions"}
    for name in sorted(set(announced["actions"]) | set(pinned["actions"])):
        flat[name] = (announced["actions"].get(name), pinned["actions"].get(name))
    for name, (theirs, ours) in flat.items():
        if theirs != ours:
            raise ContractError(
                f"{name}: the server announces {theirs!r:.80}, the robot was set up for "
                f"{ours!r:.80}; serve that model again, or pin the new one on purpose"
            )
