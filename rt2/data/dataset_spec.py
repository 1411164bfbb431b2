"""What a dataset spec is: one table row says which features of a robot data set are what."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from rt2.actions import LANGUAGE_TABLE, RT2, ActionSpec, Slot
from rt2.data import parts, plain
from rt2.data.errors import DataError, nearest
from rt2.data.parts import Part, Parts

DropLast = Literal["never", "flagged", "always"]
Terminate = Literal["last_trainable", "never"]
EmptyInstruction = Literal["refuse", "drop", "keep"]
ShortEpisode = Literal["refuse", "drop"]
ACTION_SPECS = {"rt2": RT2, "language_table": LANGUAGE_TABLE}


@dataclasses.dataclass(frozen=True)
class FixedText:
    """An instruction that every step of a data set has, for sets without useful texts."""

    text: str


@dataclasses.dataclass(frozen=True)
class Keep:
    """A condition on an episode feature; episodes that do not meet it are left out.

    matches: a regular expression that is searched in a text. equals: the value of a number or
    boolean. Raises DataError where not exactly one of them is given.
    """

    feature: str
    matches: str | None = None
    equals: bool | int | float | None = None

    def __post_init__(self):
        if (self.matches is None) == (self.equals is None):
            raise DataError(f"an episode filter needs either matches or equals: {self}")
        if self.matches is not None:
            try:
                re.compile(self.matches)
            except re.error as error:
                raise DataError(f"matches={self.matches!r}: {error}") from None

    def __str__(self) -> str:
        if self.matches is not None:
            return f"{self.feature} matches {self.matches!r}"
        return f"{self.feature} = {self.equals}"


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """How to read one robot data set; features are named without the leading `steps/`.

    camera: the image the policy sees. cameras: the set's other RGB cameras.
    instruction: a text of the steps or of the episodes, a step's integers [n] of Unicode code
        points padded with zeros, or a FixedText.
    action: parts that are joined to the D values of `action_spec`. state: parts of the
        proprioceptive state, or None. A part is a feature's name or a Part.
    drop_first: leave out step 0 of every episode (Bridge: its action is about zero).
    drop_last: leave out the last step "never", "always", or where `is_last` is set ("flagged"):
        RLDS gives the final observation an action that is not to be learnt.
    terminate: the last step that is trained on says stop ("last_trainable"), none does ("never"),
        or those do where a Part of one value is above 0.5.
    empty_instruction: "refuse" such an episode, "drop" it (counted), or "keep" it.
    bounds: the rule of `statistics.bounds`, one for all dimensions or one for each; instead of a
        rule a dimension may have its (low, high).
    keep_episodes: conditions that an episode must meet; the others are left out (counted).
    short_episode: "refuse" an episode of which drop_first and drop_last leave nothing, or "drop"
        it (counted).
    drop_idle: leave out the steps (counted) in which the robot rests: no number of the action but
        that of a slot `gripper` is larger than this in size. None keeps them.
    """

    name: str
    camera: str
    instruction: str | FixedText
    action: Parts
    action_spec: ActionSpec
    state: str | Parts | None
    drop_first: bool
    drop_last: DropLast
    terminate: Terminate | Part
    empty_instruction: EmptyInstruction
    bounds: str | tuple[str | tuple[float, float], ...]
    cameras: tuple[str, ...] = ()
    keep_episodes: tuple[Keep, ...] = ()
    short_episode: ShortEpisode = "refuse"
    drop_idle: float | None = None

    def __post_init__(self):
        choices = {"drop_last": DropLast, "terminate": Terminate, "short_episode": ShortEpisode}
        for field, kind in (choices | {"empty_instruction": EmptyInstruction}).items():
            value = getattr(self, field)
            if isinstance(value, Part):
                continue
            if value not in get_args(kind):
                hint = nearest(value, get_args(kind))
                raise DataError(f"dataset spec {self.name!r}: {field}={value!r}: {hint}")
        differs = any(
            name == "difference"
            for part in self.action
            if isinstance(part, Part)
            for name, *_ in part.operations
        )
        if differs and self.drop_last != "always":
            raise DataError(
                f"dataset spec {self.name!r}: difference has no value at an episode's last step: "
                'set drop_last to "always"'
            )

    @property
    def state_parts(self) -> Parts | None:
        """The parts of the state, or None."""
        return None if self.state is None else parts.parse_all(self.state)


_OPTIONAL = ("cameras", "keep_episodes", "short_episode", "drop_idle")


def from_config(row: Mapping[str, Any]) -> DatasetSpec:
    """The spec that a config's own row describes: the fields of DatasetSpec in plain values.

    The fields with a default may be left out. `action` may be one name; a part, an episode
    filter or a fixed text is a mapping of its fields, such as {"feature": "action", "columns":
    [6, 7], "then": [["clip", 0, 1], "invert"]} or {"text": "pick anything"}. `action_spec` is
    "rt2", "language_table" or a list of slots, each a mapping of the fields of
    `rt2.actions.Slot`. Raises DataError for an unknown or missing field.
    """
    row = dict(row)
    fields = [field.name for field in dataclasses.fields(DatasetSpec)]
    name = row.get("name", "without a name")
    for key in row.keys() - set(fields):
        raise DataError(f"dataset spec {name!r}: unknown field {key!r}: {nearest(key, fields)}")
    if missing := [field for field in fields if field not in row and field not in _OPTIONAL]:
        raise DataError(f"dataset spec {name!r}: missing fields: {', '.join(missing)}")
    readers = {
        "action": parts.parse_all,
        "action_spec": _action_spec,
        "state": lambda value: value if isinstance(value, str | None) else parts.parse_all(value),
        "instruction": _text,
        "terminate": lambda value: parts.parse(value) if isinstance(value, Mapping) else value,
        "bounds": _bounds,
        "cameras": lambda value: (value,) if isinstance(value, str) else tuple(value),
        "keep_episodes": lambda value: tuple(plain.read(Keep, condition) for condition in value),
    }
    for key, reader in readers.items():
        if key in row:
            try:
                row[key] = reader(row[key])
            except DataError as error:
                raise DataError(f"dataset spec {name!r}: {key}: {error}") from None
    return DatasetSpec(**row)


def _text(value: Any) -> str | FixedText:
    return value if isinstance(value, str) else plain.read(FixedText, value)


def _bounds(value: Any) -> str | tuple[str | tuple[float, float], ...]:
    if isinstance(value, str):
        return value
    return tuple(b if isinstance(b, str) else tuple(map(float, b)) for b in value)


def _action_spec(value: Any) -> ActionSpec:
    if isinstance(value, ActionSpec):
        return value
    if isinstance(value, str):
        if value not in ACTION_SPECS:
            raise DataError(f"unknown action_spec {value!r}: {nearest(value, ACTION_SPECS)}")
        return ACTION_SPECS[value]
    return ActionSpec(tuple(plain.read(Slot, slot) for slot in value))
