"""What an evaluation found, as one value that prints, is written as JSON and becomes a page."""

from dataclasses import dataclass, field
from typing import Any

from rt2.evaluate.statistics import Mean, Rate
from rt2.evaluate.video import Video

CHECKPOINT = "checkpoint"  # the name of the evaluated policy beside the reference policies
PLACES = ("where", "find")  # kinds of question whose answer is a place, so that it has a distance
CAPTION = "caption"  # the kind whose answer is a sentence about the picture


@dataclass(frozen=True)
class Evaluation:
    """Figures with their counts and intervals, and where they come from.

    rollouts: a row {policy, task, split, success: Rate, steps: Mean, actions, invalid} per policy,
        task and split (`rt2.evaluate.rollouts.summarise`).
    vqa: a row per kind and language (`rt2.evaluate.vqa.summarise`).
    actions: per robot source the action error on its recorded episodes, {source, ...}
        (`rt2.evaluate.actions.compare`).
    videos: episodes of the checkpoint to look at; not part of the JSON.
    metrics: rows of the training's metrics.jsonl; not part of the JSON.
    omitted: a sentence for each part that was not measured.
    """

    provenance: dict
    rollouts: list[dict] = field(default_factory=list)
    vqa: list[dict] = field(default_factory=list)
    actions: list[dict] = field(default_factory=list)
    videos: list[Video] = field(default_factory=list)
    metrics: list[dict] = field(default_factory=list)
    omitted: list[str] = field(default_factory=list)

    def to_json(self) -> dict:
        """Plain values; a rate or mean becomes an object with its n and interval."""
        parts = ("provenance", "rollouts", "vqa", "actions", "omitted")
        return {part: _plain(getattr(self, part)) for part in parts}

    def lines(self) -> list[str]:
        """The figures for a terminal, one a line, each with its count and interval."""
        lines = []
        for row in self.rollouts:
            name = f"{row['task']}, {row['split']}, {row['policy']}"
            lines.append(
                f"success  {name:38} {row['success']}  "
                f"invalid actions {row['invalid']} of {row['actions']}"
            )
        for row in self.vqa:
            name = f"{row['kind']}, {row['language']}"
            lines.append(f"answers  {name:38} {row['exact']}{_distance(row)}{_beside(row)}")
        for row in self.actions:
            name = f"{row['source']}, tokens right"
            lines.append(
                f"actions  {name:38} {row['token_accuracy']}  "
                f"invalid actions {row['invalid']} of {row['n']}"
            )
            for key, words in (
                ("false_stops", "false stops"),
                ("heeded", "other words, other action"),
            ):
                if row[key] is not None:
                    name = f"{row['source']}, {words}"
                    lines.append(f"actions  {name:38} {row[key]}")
            for slot in row["slots"]:
                name = f"{row['source']}, L1 of {slot['name']}"
                lines.append(f"actions  {name:38} {slot['error']} {slot['unit']}".rstrip())
        return lines + [f"omitted  {sentence}" for sentence in self.omitted]


def pooled(rates: list[Rate]) -> Rate:
    """One rate over all trials of `rates`."""
    return Rate(sum(rate.hits for rate in rates), sum(rate.n for rate in rates))


def _distance(row: dict) -> str:
    if row["kind"] not in PLACES:
        return ""
    distance = "" if row["distance"] is None else f"  distance {row['distance']} cells,"
    return f"{distance}  {row['unreadable']} answers are no place"


def _beside(row: dict) -> str:
    """What else is known of the answers: CIDEr of captions, and those of the start."""
    said = "" if row["cider"] is None else f"  CIDEr {row['cider']:.2f}"
    return said if row["before"] is None else f"{said}  before {row['before']}"


def _plain(value: Any) -> Any:
    if isinstance(value, Rate | Mean):
        return value.to_json()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
