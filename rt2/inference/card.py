"""The card of an exported policy: what it is, where it comes from, what it is and is not for."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import TYPE_CHECKING, Any

from rt2 import checkpoint
from rt2.inference.metadata import weights_sentence

if TYPE_CHECKING:
    from rt2.inference.policy import Policy

EVALUATION = "evaluation.json"


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a checkpoint says of its making; empty where a policy has none.

    commit: of the code that exports it. evaluation: what `rt2.evaluate --json` wrote.
    """

    commit: str
    config: dict[str, Any]
    data: dict[str, Any]
    evaluation: dict[str, Any]

    @classmethod
    def read(cls, step_folder: pathlib.Path, commit: str) -> Origin:
        """That of a step's folder, with the evaluation of its workdir if there is one."""
        assets = checkpoint.read_json(step_folder, "assets")
        files = [folder / EVALUATION for folder in step_folder.parents[:2]]
        found = next((file for file in files if file.is_file()), None)
        evaluation = json.loads(found.read_text("utf-8")) if found else {}
        if evaluation and evaluation["provenance"]["model"]["step"] != assets["step"]:
            evaluation = {}  # of another step
        return cls(commit, assets["config"], assets["data"], evaluation)


UNKNOWN = Origin("unknown", {}, {}, {})


def text(policy: Policy, origin: Origin) -> str:
    """The card, in Markdown."""
    parts = [
        USE.format(dataset=next(iter(policy.preprocess.codecs))),
        f"## The model\n\n{_model(policy, origin)}",
        f"## Evaluation\n\n{_evaluation(origin.evaluation)}",
        PURPOSE,
        LICENCE,
        f"## Data\n\n{_json(origin.data)}",
        f"## Config\n\nPaths by their last names alone.\n\n{_json(_last_names(origin.config))}",
    ]
    return "\n".join(parts)


def _model(policy: Policy, origin: Origin) -> str:
    step = policy.metadata.get("step", "unknown")
    return (
        f"- {policy.model.size:,} parameters, step {step}, commit {origin.commit}\n"
        f"- {weights_sentence(policy.metadata['weights'])}\n"
        f"- data sets: {', '.join(policy.preprocess.codecs)}\n"
    )


def _evaluation(found: dict[str, Any]) -> str:
    if not found:
        return "None stands beside the checkpoint: `python -m rt2.evaluate` measures it.\n"
    origin, rows = found["provenance"], []
    for one in found["rollouts"]:
        rows.append((f"{one['policy']}: {one['task']}, {one['split']}", "success", one["success"]))
    for one in found["actions"]:
        slots = [(f"{one['source']}: {s['name']}", f"error, {s['unit']}", s) for s in one["slots"]]
        rows += [(name, what, slot["error"]) for name, what, slot in slots]
    for one in found["vqa"]:
        rows.append((f"{one['kind']}, {one['language']}", "exact answers", one["exact"]))
    lines = [
        f"| {name} | {what} | {x.get('rate', x.get('mean')):.4g} | {x['n']} | {_span(x)} |"
        for name, what, x in rows
    ]
    said = f"Of the float32 checkpoint, at commit {origin['commit']}, {origin['date']}."
    heads = "| | | | n | 95 % interval |\n| --- | --- | --- | --- | --- |"
    return "\n".join([said, "", heads, *lines, ""])


def _span(figure: dict[str, Any]) -> str:
    return "" if figure["interval"] is None else "{:.4g} to {:.4g}".format(*figure["interval"])


def _json(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=1, sort_keys=True)}\n```\n"


def _last_names(value: Any) -> Any:
    """`value` with every path as its last name: the rest tells of the machine that trained."""
    if isinstance(value, dict):
        return {key: _last_names(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_last_names(item) for item in value]
    return value.rstrip("/").rsplit("/", 1)[-1] if isinstance(value, str) else value


USE = """\
# An exported RT-2 policy

    python -m venv env && env/bin/pip install -r requirements.txt   # `jax[cuda13]` on a GPU
    env/bin/python bundle.py                                        # checks this folder

    from bundle import Policy                       # with this folder on PYTHONPATH
    policy = Policy.load("path/to/this/folder")
    reply = policy.infer({{"image": image, "instruction": "...", "dataset": "{dataset}"}})

`image` is uint8 [height, width, 3] RGB; `reply["actions"]` is float32 [1, D] in the units of
`policy.metadata["datasets"]`. Where `state_low` is not empty there, the observation needs `state`
too: as many numbers, the robot's own. With `"mode": "vqa"` the instruction is a question and
`reply["text"]` the answer. Loading checks every byte against manifest.json and the replies to the
golden observations against those of the model that was exported.
"""

PURPOSE = """\
## What it is for, and what not

For research on robots and simulators like those of its data sets: the same cameras, the same units,
instructions like those it has learnt. Every action lies within the bounds of its data set, and is
in no other sense safe: the model knows no obstacle, no person and no limit of an arm. It needs a
gate between itself and a robot, the arm's own limits and an emergency stop. It is not for people to
be near, not for questions whose answers somebody relies on, and tells nothing of tasks that the
evaluation does not name.
"""

LICENCE = """\
## Licence

The code, bundle.py, is under the Apache License 2.0. The weights come from the data below and from
the weights that the config starts from: what those allow holds for them too. Data sets that
`rt2.sim.collect` renders show OpenMoji's pictograms (CC BY-SA 4.0).
"""
