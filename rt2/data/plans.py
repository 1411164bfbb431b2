"""Plans in words for chain-of-thought rows: from annotations or from a template."""

import json
from collections.abc import Sequence
from pathlib import Path

from rt2.data.errors import DataError

FIELD = "{instruction}"


class Plans:
    """`plans[instruction]` is the plan, in words.

    `source`: a template such as "reach for {instruction}", or a JSON file {instruction: plan} that
    has every one of `instructions`. Raises DataError where it is neither or a plan is missing or
    empty.
    """

    def __init__(self, source: str, instructions: Sequence[str]):
        annotated = _annotations(source) if FIELD not in source else None
        self._plans = {
            text: source.replace(FIELD, text) if annotated is None else annotated.pop(text, "")
            for text in instructions
        }
        lacking = [text for text, plan in self._plans.items() if not plan.strip()]
        if lacking:
            shown = ", ".join(map(repr, lacking[:5]))
            raise DataError(
                f"{source}: no plan for {len(lacking)} of {len(instructions)} instructions: "
                f"{shown}. Add them, or use a template with {FIELD}"
            )

    def __getitem__(self, instruction: str) -> str:
        return self._plans[instruction]


def _annotations(source: str) -> dict[str, str]:
    path = Path(source)
    if not path.is_file():
        raise DataError(
            f"plan {source!r}: neither a template with {FIELD} nor a JSON file of plans by "
            "instruction"
        )
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    texts = isinstance(found, dict) and all(isinstance(plan, str) for plan in found.values())
    if not texts:
        raise DataError(f"{path}: expected an object of texts, {{instruction: plan}}")
    return found
