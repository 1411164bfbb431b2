"""Guesses a dataset spec row from the features and the first actions of a data set."""

import numpy as np

from rt2.data.errors import DataError
from rt2.data.features import Leaf
from rt2.data.rlds import RldsSteps

STILL = 1e-2  # a number below this share of its standard deviation counts as zero


def propose(steps: RldsSteps) -> dict[str, object]:
    """A row for `specs.from_config`: plain values, to be read over before it is used.

    Raises DataError where the set has no RGB camera, no text or no action among its step features.
    """
    leaves = steps.index.features.at("step")
    camera = _first(
        [leaf for leaf in leaves if leaf.kind == "image" and leaf.shape[-1] == 3], _camera_rank
    )
    texts = [leaf for leaf in leaves if leaf.kind == "text"]
    instruction = _first(texts, lambda leaf: ("instruction" not in leaf.name, leaf.name))
    numbers = [leaf for leaf in leaves if leaf.kind == "number"]
    actions = [leaf for leaf in numbers if leaf.path[0].startswith("action")]
    wanted = {"RGB image": camera, "text": instruction, "action*": actions}
    for what, found in wanted.items():
        if not found:
            names = ", ".join(leaf.name for leaf in leaves)
            raise DataError(f"{steps.index.directory}: no step feature is a {what}: {names}")
    states = [leaf for leaf in numbers if leaf.path[0] == "observation" and len(leaf.shape) == 1]
    state = _first(states, lambda leaf: (not _is_state(leaf), leaf.name))
    dim = sum(leaf.size for leaf in actions)
    slots = [{"name": f"a{i}", "bins": 256} for i in range(dim)]
    flagged = any(leaf.name == "is_last" for leaf in leaves)
    return {
        "name": steps.index.info.name,
        "camera": camera.name,
        "instruction": instruction.name,
        "action": [leaf.name for leaf in actions],
        "action_spec": {7: "rt2", 2: "language_table"}.get(dim, slots),
        "state": state.name if state is not None and _is_state(state) else None,
        "drop_first": _starts_still(steps, actions),
        "drop_last": "flagged" if flagged else "never",
        "terminate": "last_trainable",
        "empty_instruction": "refuse",
        "bounds": "q01_q99",
    }


def _first(leaves: list[Leaf], rank) -> Leaf | None:
    return min(leaves, key=rank, default=None)


def _camera_rank(leaf: Leaf) -> tuple[bool, str]:
    return any(word in leaf.name for word in ("wrist", "hand", "depth")), leaf.name


def _is_state(leaf: Leaf) -> bool:
    return any(word in leaf.name for word in ("state", "proprio", "position"))


def _starts_still(steps: RldsSteps, actions: list[Leaf]) -> bool:
    """Whether most numbers of the first actions are about zero, and of later ones are not."""
    split = steps.split
    columns = [split.column(f"{leaf.key}.value").reshape(split.steps, -1) for leaf in actions]
    values = np.abs(np.concatenate([np.asarray(c, np.float64) for c in columns], axis=1))
    starts = split.column("episode.first")[:-1]
    still = values < STILL * values.std(axis=0)
    later = np.delete(still, starts, axis=0)
    return bool(still[starts].mean() > 0.5 and (later.mean() if len(later) else 0.0) < 0.5)
