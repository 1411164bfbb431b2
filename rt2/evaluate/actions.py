"""The error of a policy's actions on recorded episodes, in the data set's own units."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rt2.actions import ActionCodec
from rt2.evaluate.statistics import Mean, Rate

BARS = 64  # of a histogram at most
WORST = 10  # episodes


@dataclass(frozen=True)
class Step:
    """What is kept of a recorded step; its pictures are not."""

    episode: int
    instruction: str
    action: np.ndarray


def compare(policy: Any, dataset: str, examples: Sequence[Any], batch: int) -> dict:
    """Asks the policy about each `RobotExample` of `dataset` and compares its actions with them.

    Returns {"n", "slots", "worst", "token_accuracy", "invalid", "false_stops", "heeded"}: `slots`
    has a row {name, unit, error, baseline, histogram} per continuous slot, `error` the Mean
    absolute difference (L1) in the slot's unit, `baseline` that of always giving the median of the
    recorded actions, `histogram` {edges, recorded, given} the counts of values in the slot's bins,
    or in BARS equal parts where it has more; what lies beyond its bounds counts at their end;
    `worst` the WORST episodes, worst first, as {episode, instruction, steps, error}, `error` the
    mean over slots of L1 as a share of `baseline`; `token_accuracy` is the Rate over all slots;
    `invalid` counts replies without finite actions: they enter no mean; `false_stops` is the Rate
    of replies that end an episode which goes on, None where no recorded step goes on or the robot
    has no such slot; `heeded` the Rate of replies whose tokens change when the same pictures come
    with another step's instruction, None where all steps of every batch have the same one.

    Steps of one episode are not independent: the intervals are narrower than they should be.
    """
    codec = policy.preprocess.codec(dataset)
    stopping = any(slot.kind == "terminate" for slot in codec.spec.slots)
    compared, given, right, stops, heeded, invalid = [], [], [], [], [], 0
    for start in range(0, len(examples), batch):
        rows = [examples[i] for i in range(start, min(start + batch, len(examples)))]
        asked = [observation(row, dataset, policy.preprocess.cameras) for row in rows]
        replies = policy.infer_batch(asked)
        for row, reply in zip(rows, replies, strict=True):
            truth = policy.preprocess.vocabulary.tokens(codec.encode(row.action, row.terminate))
            right += (np.asarray(reply["tokens"]) == truth).tolist()
            if stopping and not row.terminate:
                stops.append(reply["terminate"])
            action = np.asarray(reply["actions"], np.float64)
            if action.shape != (1, len(row.action)) or not np.isfinite(action).all():
                invalid += 1
                continue
            compared.append(Step(row.episode, row.instruction, row.action))
            given.append(action[0])
        heeded += _changes(policy, asked, replies)
    recorded, given = np.array([step.action for step in compared]), np.array(given)
    slots = _slots(codec, recorded, given)
    return {
        "n": len(examples),
        "slots": slots,
        "worst": _worst(compared, np.abs(given - recorded), slots),
        "token_accuracy": Rate.of(right),
        "invalid": invalid,
        "false_stops": Rate.of(stops) if stops else None,
        "heeded": Rate.of(heeded) if heeded else None,
    }


def _changes(policy: Any, asked: Sequence[dict], replies: Sequence[dict]) -> list[bool]:
    """Of each request, whether the next other instruction of the batch changes its tokens."""
    said = [one["instruction"] for one in asked]
    if len(set(said)) < 2:
        return []
    others = [next(text for text in said[i:] + said if text != said[i]) for i in range(len(said))]
    swapped = [one | {"instruction": text} for one, text in zip(asked, others, strict=True)]
    pairs = zip(replies, policy.infer_batch(swapped), strict=True)
    return [not np.array_equal(one["tokens"], other["tokens"]) for one, other in pairs]


def observation(example: Any, dataset: str, cameras: Sequence[str]) -> dict:
    """What a robot of `dataset` would have sent at this step."""
    state = {} if example.state is None else {"state": example.state}
    return {
        "image": dict(zip(cameras, (list(example.images), *example.views.values()), strict=True)),
        "instruction": example.instruction,
        "dataset": dataset,
    } | state


def _slots(codec: ActionCodec, recorded: np.ndarray, given: np.ndarray) -> list[dict]:
    if not len(recorded):
        return []
    errors = np.abs(given - recorded)
    constant = np.abs(recorded - np.median(recorded, axis=0))
    bounds = [
        np.linspace(low, high, min(slot.bins, BARS) + 1)
        for slot, low, high in zip(codec.spec.continuous, codec.low, codec.high, strict=True)
    ]
    return [
        {
            "name": slot.name,
            "unit": slot.unit,
            "error": Mean.of(errors[:, i]),
            "baseline": Mean.of(constant[:, i]),
            "histogram": _histogram(edges, recorded[:, i], given[:, i]),
        }
        for i, (slot, edges) in enumerate(zip(codec.spec.continuous, bounds, strict=True))
    ]


def _histogram(edges: np.ndarray, recorded: np.ndarray, given: np.ndarray) -> dict[str, list]:
    """The counts of both between `edges`."""
    within = {"recorded": recorded, "given": given}
    counts = {
        name: np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].tolist()
        for name, values in within.items()
    }
    return {"edges": edges.tolist(), **counts}


def _worst(compared: Sequence[Step], errors: np.ndarray, slots: Sequence[dict]) -> list[dict]:
    """The episodes whose compared steps have the largest error, one row each."""
    moving = [i for i, slot in enumerate(slots) if slot["baseline"].value > 0]
    if not moving:
        return []
    usual = np.array([slots[i]["baseline"].value for i in moving])
    shares = (errors[:, moving] / usual).mean(1)
    episodes = defaultdict(list)
    for step, share in zip(compared, shares, strict=True):
        episodes[step.episode, step.instruction].append(share)
    rows = [
        {"episode": episode, "instruction": said, "steps": len(some), "error": float(np.mean(some))}
        for (episode, said), some in episodes.items()
    ]
    return sorted(rows, key=lambda row: -row["error"])[:WORST]
