"""Dataset specs: one table row says which features of a robot data set are what."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from rt2.actions import LANGUAGE_TABLE, RT2, ActionSpec, Slot
from rt2.data.errors import DataError, nearest

DropLast = Literal["never", "flagged", "always"]
Terminate = Literal["last_trainable", "never"]
EmptyInstruction = Literal["refuse", "drop", "keep"]
ACTION_SPECS = {"rt2": RT2, "language_table": LANGUAGE_TABLE}


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """How to read one robot data set; features are named without the leading `steps/`.

    camera: the image the policy sees. instruction: a text.
    action: features concatenated to the D values of `action_spec`. state: a feature, or None.
    drop_first: leave out step 0 of every episode (Bridge: its action is about zero).
    drop_last: leave out the last step "never", "always", or where `is_last` is set ("flagged"):
        RLDS gives the final observation an action that is not to be learnt.
    terminate: the last step that is trained on says stop ("last_trainable"), or none does.
    empty_instruction: "refuse" such an episode, "drop" it (counted), or "keep" it.
    bounds: the rule of `statistics.bounds`, one for all dimensions or one for each; instead of a
        rule a dimension may have its (low, high).
    """

    name: str
    camera: str
    instruction: str
    action: tuple[str, ...]
    action_spec: ActionSpec
    state: str | None
    drop_first: bool
    drop_last: DropLast
    terminate: Terminate
    empty_instruction: EmptyInstruction
    bounds: str | tuple[str | tuple[float, float], ...]

    def __post_init__(self):
        choices = {"drop_last": DropLast, "terminate": Terminate}
        for field, kind in (choices | {"empty_instruction": EmptyInstruction}).items():
            value = getattr(self, field)
            if value not in get_args(kind):
                hint = nearest(value, get_args(kind))
                raise DataError(f"dataset spec {self.name!r}: {field}={value!r}: {hint}")


SPECS = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            name="tabletop",
            camera="observation/rgb",
            instruction="instruction",
            action=("action",),
            action_spec=LANGUAGE_TABLE,
            state="observation/effector_position",
            drop_first=False,
            drop_last="always",
            terminate="last_trainable",
            empty_instruction="refuse",
            bounds=((-0.04, 0.04),) * 2,  # what the simulator accepts, in metres a step
        ),
        DatasetSpec(
            name="bridge_dataset",
            camera="observation/image_0",
            instruction="language_instruction",
            action=("action",),
            action_spec=RT2,
            state="observation/state",
            drop_first=True,
            drop_last="flagged",
            terminate="last_trainable",
            empty_instruction="drop",
            bounds=(*["q01_q99"] * 6, (0.0, 1.0)),
        ),
    )
}


def get(name: str) -> DatasetSpec:
    """The row `name` of SPECS. Raises DataError with the nearest valid name."""
    if name not in SPECS:
        raise DataError(
            f"unknown data set {name!r}: {nearest(name, SPECS)}. A data set of your own needs one "
            "row in your config; `python -m rt2.data.inspect DIR` proposes it."
        )
    return SPECS[name]


def from_config(row: Mapping[str, Any]) -> DatasetSpec:
    """The spec that a config's own row describes: the fields of DatasetSpec, all of them.

    `action` may be one name; `action_spec` is "rt2", "language_table" or a list of slots, each a
    mapping of the fields of `rt2.actions.Slot`. Raises DataError for an unknown or missing field.
    """
    row = dict(row)
    fields = [field.name for field in dataclasses.fields(DatasetSpec)]
    name = row.get("name", "without a name")
    for key in row.keys() - set(fields):
        raise DataError(f"dataset spec {name!r}: unknown field {key!r}: {nearest(key, fields)}")
    if missing := [field for field in fields if field not in row]:
        raise DataError(f"dataset spec {name!r}: missing fields: {', '.join(missing)}")
    action = row["action"]
    row["action"] = (action,) if isinstance(action, str) else tuple(action)
    row["action_spec"] = _action_spec(name, row["action_spec"])
    bounds = row["bounds"]
    if not isinstance(bounds, str):
        row["bounds"] = tuple(b if isinstance(b, str) else tuple(map(float, b)) for b in bounds)
    return DatasetSpec(**row)


def _action_spec(name: str, value: Any) -> ActionSpec:
    if isinstance(value, ActionSpec):
        return value
    if isinstance(value, str):
        if value not in ACTION_SPECS:
            hint = nearest(value, ACTION_SPECS)
            raise DataError(f"dataset spec {name!r}: unknown action_spec {value!r}: {hint}")
        return ACTION_SPECS[value]
    try:
        return ActionSpec(tuple(Slot(**dict(slot)) for slot in value))
    except TypeError as error:
        raise DataError(f"dataset spec {name!r}: action_spec: {error}") from None
