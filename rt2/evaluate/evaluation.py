"""Everything that can be measured about one policy, in order, told to the operator as it goes."""

import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rt2.data import specs, storage
from rt2.data.robot import RobotExamples
from rt2.data.vqa import WebExamples
from rt2.data.web import options as reading
from rt2.evaluate import actions, captions, rollouts, vqa
from rt2.evaluate.agents import REFERENCES, TABLETOP, CheckpointAgent
from rt2.evaluate.provenance import provenance
from rt2.evaluate.results import CAPTION, CHECKPOINT, Evaluation
from rt2.evaluate.start import load_start


@dataclass(frozen=True)
class Options:
    """What to measure and how much of it.

    episodes: rollouts per task and split. objects: how many lie on a board, where the split leaves
    it open. questions, steps: how many of the held-out questions and recorded steps are asked,
    drawn without replacement by the seed. videos: films per task, split and outcome. batch: rows
    per request to the policy. data: where the checkpoint's evaluation sources lie as NAME/VERSION,
    None for the paths that the checkpoint names. before: weights of a pre-trained start, which is
    asked the same questions.
    """

    episodes: int
    tasks: tuple[str, ...]
    splits: tuple[str, ...]
    objects: int
    seed: int
    batch: int
    questions: int
    steps: int
    videos: int
    data: Path | None
    before: Path | None


def evaluate(policy: Any, assets: dict, options: Options, metrics: list[dict]) -> Evaluation:
    """Measures what a checkpoint's `assets` name; `metrics` are the rows of its training.

    A policy of the tabletop is judged in closed loop. Every evaluation source of its config
    (`assets["eval"]`: name -> {kind, path, split, spec}) is asked: "robot" for the action error on
    recorded steps, "web" for answers. What is left out is said in `omitted`.
    """
    start = None if options.before is None else load_start(options.before)
    tabletop = TABLETOP in policy.preprocess.codecs
    episodes = list(_episodes(policy, options)) if tabletop else []
    own = [episode for episode in episodes if episode.policy == CHECKPOINT]
    omitted = [] if tabletop else ["closed loop: the policy was not trained on the tabletop"]
    answers, earlier, errors = [], [], []
    for name, source in assets["eval"].items():
        path = source_path(source["path"], options.data)
        if isinstance(path, Path) and not glob.glob(str(path)):
            omitted.append(f"{name}: {path} is not here; name its folder by --data=DIR")
        elif source["kind"] == "web":
            answers += _answers(policy, name, path, source, options)
            if start is not None:
                earlier += _answers(start, f"{name}, before", path, source, options)
        else:
            errors.append(_action_error(policy, name, path, source, assets["config"], options))
    if any(answer.kind == CAPTION for answer in answers) and not captions.installed():
        omitted.append("CIDEr of captions: install the extra `captions`")
    return Evaluation(
        provenance=provenance(options.seed, policy.metadata),
        rollouts=rollouts.summarise(episodes),
        vqa=vqa.summarise(answers, earlier),
        actions=errors,
        videos=rollouts.videos(own, options.videos),
        metrics=metrics,
        omitted=omitted,
    )


def source_path(path: str, data: Path | None) -> Path | storage.Url:
    """Where a source lies: at `path`, or as the same NAME/VERSION under `data`."""
    return storage.at(path) if data is None else data.joinpath(*Path(path).parts[-2:])


def _episodes(policy: Any, options: Options) -> Iterator[rollouts.Episode]:
    queue = rollouts.trials(
        options.tasks, options.splits, options.episodes, options.seed, options.objects
    )
    for agent in (CheckpointAgent(policy, options.batch), *REFERENCES):
        played = rollouts.play(agent, queue, options.batch, policy.preprocess.image_size)
        yield from tqdm(played, f"rollouts, {agent.name}", len(queue), unit="episode")


def _answers(policy: Any, name: str, path: Path, source: dict, options: Options) -> list:
    found = WebExamples(path, source["split"] or None, reading.from_row(source))
    examples = Drawn(found, options.questions, options.seed)
    asked = vqa.ask(policy, examples, options.batch)
    return list(tqdm(asked, f"questions, {name}", len(examples), unit="question"))


def _action_error(
    policy: Any, name: str, path: Path, source: dict, config: dict, options: Options
) -> dict:
    own_specs, spec_name = config["dataset_specs"], source["spec"]
    if spec_name in own_specs:
        spec = specs.from_config({"name": spec_name, **own_specs[spec_name]})
    else:
        spec = specs.get(spec_name)
    recorded = RobotExamples(
        path, source["split"], spec, policy.preprocess.history, source["cameras"]
    )
    print(f"Asking about recorded steps, {name} ...", flush=True)
    drawn = Drawn(recorded, options.steps, options.seed)
    return {"source": name, **actions.compare(policy, spec_name, drawn, options.batch)}


class Drawn(Sequence):
    """At most `count` of the examples, drawn without replacement by `seed`, in their order."""

    def __init__(self, examples: Any, count: int, seed: int):
        rng = np.random.default_rng(seed)
        count = min(count, len(examples))
        self._examples = examples
        self._rows = np.sort(rng.choice(len(examples), count, replace=False))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Any:
        return self._examples[int(self._rows[i])]


def training_metrics(checkpoint: Path) -> list[dict]:
    """The rows of the workdir's metrics.jsonl; none where the checkpoint stands without one.

    `checkpoint` is a workdir or one step's folder in its `checkpoints`. Raises ValueError, naming
    the line, for a row that is no JSON object with a step; a half-written last row is left out.
    """
    places = (checkpoint, checkpoint.parent.parent)
    file = next((p / "metrics.jsonl" for p in places if (p / "metrics.jsonl").is_file()), None)
    if file is None:
        return []
    text = file.read_text("utf-8")
    lines = text[: text.rfind("\n") + 1].splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            row["step"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{file}, line {number}: not a JSON object with a step") from None
        rows.append(row)
    return rows
