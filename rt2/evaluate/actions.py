"""The error of a policy's actions on recorded episodes, in the data set's own units."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rt2.evaluate.statistics import Mean, Rate


def compare(policy: Any, dataset: str, examples: Sequence[Any], batch: int) -> dict:
    """Asks the policy about each `RobotExample` of `dataset` and compares its actions with them.

    Returns {"n", "slots", "token_accuracy", "invalid"}: `slots` has a row {name, unit, error,
    baseline} per continuous slot, `error` the Mean absolute difference (L1) in the slot's unit
    and `baseline` that of always giving the median of the recorded actions; `token_accuracy` is
    the Rate over all slots; `invalid` counts replies without finite actions: they enter no mean.

    Steps of one episode are not independent: the intervals are narrower than they should be.
    """
    codec = policy.preprocess.codec(dataset)
    recorded, given, tokens_right, slots, invalid = [], [], 0, 0, 0
    for start in range(0, len(examples), batch):
        rows = [examples[i] for i in range(start, min(start + batch, len(examples)))]
        replies = policy.infer_batch([observation(row, dataset) for row in rows])
        for row, reply in zip(rows, replies, strict=True):
            truth = policy.preprocess.vocabulary.tokens(codec.encode(row.action, row.terminate))
            tokens_right += int((np.asarray(reply["tokens"]) == truth).sum())
            slots += truth.size
            action = np.asarray(reply["actions"], np.float64)
            if action.shape != (1, len(row.action)) or not np.isfinite(action).all():
                invalid += 1
                continue
            recorded.append(row.action)
            given.append(action[0])
    return {
        "n": len(examples),
        "slots": _slots(codec.spec.continuous, np.array(recorded), np.array(given)),
        "token_accuracy": Rate(tokens_right, slots),
        "invalid": invalid,
    }


def observation(example: Any, dataset: str) -> dict:
    """What a robot of `dataset` would have sent at this step."""
    state = {} if example.state is None else {"state": example.state}
    return {
        "image": list(example.images),
        "instruction": example.instruction,
        "dataset": dataset,
    } | state


def _slots(slots: Sequence[Any], recorded: np.ndarray, given: np.ndarray) -> list[dict]:
    if not len(recorded):
        return []
    errors = np.abs(given - recorded)
    constant = np.abs(recorded - np.median(recorded, axis=0))
    return [
        {
            "name": slot.name,
            "unit": slot.unit,
            "error": Mean.of(errors[:, i]),
            "baseline": Mean.of(constant[:, i]),
        }
        for i, slot in enumerate(slots)
    ]
