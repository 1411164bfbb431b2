"""Everything that a look at a robot data set tells, as plain JSON values."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from rt2.data import specs
from rt2.data.errors import DataError
from rt2.data.format import dataset_info, features
from rt2.data.inspect import config_text, leaf_guess, proposal
from rt2.data.inspect.histogram import bin_counts, length_counts
from rt2.data.rlds import RldsSteps
from rt2.data.robot import RobotExamples


def survey(directory: Path, spec_name: str | None) -> dict[str, Any]:
    """What the set in `directory` holds, split by split, with a proposed row.

    The figures of actions are those of the steps that `spec_name` (default: the proposed row)
    trains on, over the bins that the first split gives; where a split cannot be read by it,
    `refused` says why. Raises DataError where the data set is not whole.
    """
    features.load(directory)  # says so where `directory` is the one above
    splits = tuple(dataset_info.load(directory).splits)
    opened = {name: RldsSteps(directory, name) for name in splits}
    steps = opened[splits[0]]
    if spec_name:
        spec, row, python = specs.get(spec_name), None, None
    else:
        proposed = proposal.propose(steps)
        spec, row = specs.from_config(proposed.row), proposed.row
        episodes = {name: opened[name].split.episodes for name in splits}
        python = config_text.as_python(proposed, directory, episodes)
    index = steps.index
    return {
        "name": index.info.name,
        "version": index.info.version,
        "directory": str(directory),
        "content_hash": index.content_hash,
        "features": {
            leaf.name: f"{leaf.level} {leaf.kind} {leaf.dtype} {list(leaf.shape)}"
            for leaf in index.features.leaves
        },
        "cameras": [leaf.name for leaf in leaf_guess.cameras(steps)],
        "shipped": index.info.name in specs.SPECS,
        "spec": spec.name if spec_name else "proposed",
        "row": row,
        "python": python,
        "splits": _splits(directory, opened, spec),
        "leaks": _leaks(opened, spec.camera),
    }


def _splits(
    directory: Path, opened: dict[str, RldsSteps], spec: specs.DatasetSpec
) -> dict[str, Any]:
    """Every split; the bounds are those of the first one that can be read, as in training."""
    found, bounds = {}, None
    for name, steps in opened.items():
        found[name] = _untrained(steps)
        try:
            examples = RobotExamples(directory, name, spec)
            bounds = bounds or examples.bounds()
            found[name] |= _trainable(examples, *bounds)
        except DataError as error:
            found[name]["refused"] = str(error)
    return found


def _untrained(steps: RldsSteps) -> dict[str, Any]:
    """What can be said without a dataset spec."""
    lengths = np.diff(steps.split.column("episode.first"))
    return {
        "episodes": steps.split.episodes,
        "steps": len(steps),
        "lengths": length_counts(lengths),
        "non_finite": _non_finite(steps),
        "commonest_picture": {
            leaf.name: leaf_guess.commonest(steps, leaf) for leaf in leaf_guess.cameras(steps)
        },
    }


def _trainable(examples: RobotExamples, low, high) -> dict[str, Any]:
    values, slots = examples.actions, examples.spec.action_spec.continuous
    outside = ((values < low) | (values > high)).mean(axis=0)
    return {
        "trainable": len(examples),
        "dropped": examples.dropped,
        "instructions": _instructions(examples),
        "dimensions": [slot.name for slot in slots],
        "units": [slot.unit for slot in slots],
        "action": examples.statistics.to_json(),
        "bounds": {"low": list(low), "high": list(high)},
        "outside_bounds": [float(share) for share in outside],
        "bins": [
            bin_counts(values[:, i], slot.bins, low[i], high[i]) for i, slot in enumerate(slots)
        ],
        "warnings": [list(warning) for warning in examples.warnings()],
    }


def _instructions(examples: RobotExamples) -> list[dict[str, Any]]:
    """Every instruction and how many episodes begin with it, the commonest first."""
    begins = Counter(examples.instruction(int(i)) for i in examples.episode_starts[:-1])
    found = [{"text": text, "episodes": begins[text]} for text in examples.instructions]
    return sorted(found, key=lambda row: -row["episodes"])


def _non_finite(steps: RldsSteps) -> dict[str, int]:
    """How many steps have a NaN or an infinity in a feature, of those where one has."""
    found = {}
    for leaf in steps.index.features.at("step"):
        if leaf.kind == "number" and leaf.wire == "float":
            values = steps.split.column(f"{leaf.key}.value").reshape(len(steps), -1)
            found[leaf.name] = int((~np.isfinite(values)).any(axis=1).sum())
    return {name: count for name, count in found.items() if count}


def _leaks(opened: dict[str, RldsSteps], camera: str) -> list[str]:
    """What episodes stand in two splits, by the CRC32C of their images."""
    seen: dict[bytes, str] = {}
    shared: dict[tuple[str, str], int] = {}
    for name, steps in opened.items():
        crcs = steps.split.column(f"{steps.leaf(camera).key}.crc")
        starts = steps.split.column("episode.first")
        for first, last in zip(starts[:-1], starts[1:], strict=True):
            other = seen.setdefault(crcs[first:last].tobytes(), name)
            if other != name:
                shared[name, other] = shared.get((name, other), 0) + 1
    return [f"{n} episodes of {a} stand in {b} too" for (a, b), n in shared.items()]


def oddities(found: dict[str, Any]) -> list[str]:
    """All that should be looked at before training, one sentence each; empty where nothing is."""
    odd = [f"{leak}: held-out figures mean nothing" for leak in found["leaks"]]
    for name, split in found["splits"].items():
        if "refused" in split:
            odd.append(f"{name} cannot be trained on with this row: {split['refused']}")
            continue
        odd += [f"{name}: {slot}: {what}" for slot, what in split["warnings"]]
        odd += [
            f"{name}: {slot} uses {len(np.flatnonzero(bins['counts']))} of {len(bins['counts'])} "
            f"bins: q01 to q99 is {bins['covered']:.0%} of its bounds"
            for slot, bins in zip(split["dimensions"], split["bins"], strict=True)
            if bins["covered"] < 0.25
        ]
    for name, split in found["splits"].items():
        odd += [
            f"{name}: {camera} shows one and the same picture in {share:.0%} of the steps"
            for camera, share in split["commonest_picture"].items()
            if share > 0.1 and share * split["steps"] > 3
        ]
        odd += [
            f"{name}: {feature} is NaN or infinite in {count} of {split['steps']} steps"
            for feature, count in split["non_finite"].items()
        ]
    return odd


def examples(found: dict[str, Any], split: str) -> RobotExamples:
    """The trainable steps of a split that `survey` has looked at."""
    row = found["row"]
    spec = specs.get(found["spec"]) if row is None else specs.from_config(row)
    return RobotExamples(found["directory"], split, spec)
