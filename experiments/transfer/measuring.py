"""What is measured of a policy: success under every condition, and answers about held-out pictures.

Boards have five objects, so that a policy which reads nothing and goes to any of them is right in
about a fifth of the episodes; the robot data has boards of three to five.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from rt2 import prompts
from rt2.data.vqa import WebExamples
from rt2.evaluate import rollouts, vqa
from rt2.evaluate.agents import REFERENCES, Agent, CheckpointAgent
from rt2.evaluate.evaluation import Drawn
from rt2.evaluate.results import pooled
from rt2.evaluate.statistics import Rate
from rt2.inference.policy import Policy
from rt2.sim import conditions, questions, render, scenes
from rt2.sim.tabletop import MIN_IMAGE_SIZE

__all__ = [
    "CONDITIONS",
    "FULL",
    "QUICK",
    "REFERENCES",
    "Plan",
    "answer_rows",
    "place_row",
    "success_rows",
]

TASK = "reach"
# "arrangements" are boards of five, which are the rule here
CONDITIONS = tuple(name for name in conditions.CONDITIONS if name != "arrangements")
SEED = 0  # of scenes and questions: the same ones for every row


@dataclasses.dataclass(frozen=True)
class Plan:
    """episodes: of each of the conditions. objects: on a board. questions: about held-out pictures.

    batch: rows of one request to the policy.
    """

    conditions: tuple[str, ...]
    episodes: int
    objects: int
    questions: int
    batch: int

    def record(self) -> dict[str, Any]:
        """All that decides what is measured."""
        return dataclasses.asdict(self) | {"task": TASK, "seed": SEED}

    def agent(self, policy: Any) -> CheckpointAgent:
        """The agent of a policy, or of one that asking.py has wrapped."""
        return CheckpointAgent(policy, self.batch)

    def play(self, agent: Agent, condition: str, policy: Policy | None) -> dict:
        """The row of `rollouts.summarise` of an agent under one condition."""
        queue = rollouts.trials((TASK,), (condition,), self.episodes, SEED, self.objects)
        size = policy.preprocess.image_size if policy else MIN_IMAGE_SIZE
        (found,) = rollouts.summarise(rollouts.play(agent, queue, self.batch, size))
        return found

    def ask(self, policy: Policy, data: pathlib.Path) -> list[dict]:
        """The rows of `vqa.summarise`."""
        examples = WebExamples(data / "web_vqa/1.0.0", "validation")
        drawn = Drawn(examples, self.questions, SEED)
        return vqa.summarise(vqa.ask(policy, drawn, self.batch))

    def locate(self, policy: Policy, condition: str) -> Rate:
        """How often the place that is answered to the robot's sentence is nearest to the target."""
        queue = rollouts.trials((TASK,), (condition,), self.episodes, SEED, self.objects)
        right = 0
        for i in range(0, len(queue), self.batch):
            some = queue[i : i + self.batch]
            begun = [trial.begin(policy.preprocess.image_size) for trial in some]
            boards = [one.env.scene for one in begun]
            asked = [
                {
                    "image": one.pictures[0],
                    "instruction": prompts.action_prompt(board.instruction),
                    "mode": "vqa",
                }
                for one, board in zip(begun, boards, strict=True)
            ]
            replies = policy.infer_batch(asked)
            right += sum(
                _nearest(reply["text"], board) for reply, board in zip(replies, boards, strict=True)
            )
        return Rate(right, len(queue))


def _nearest(text: str, board: scenes.Scene) -> bool:
    """Whether the place "x y" is nearer to the target than to any other object."""
    place = vqa.read_place(text)
    if place is None:
        return False
    point = (np.array(place) + 0.5) / questions.LOCATION_GRID * render.BOARD_M
    return bool(np.hypot(*(board.positions - point).T).argmin() == board.target)


FULL = Plan(CONDITIONS, episodes=200, objects=5, questions=2000, batch=64)
QUICK = Plan(("seen", "category"), episodes=1, objects=5, questions=4, batch=1)


def success_rows(name: str, found: dict) -> Iterator[dict]:
    """Success and invalid actions of one condition, as rows of results.json."""
    name = f"{name}/{found['split']}"
    yield _row(name, found["success"], "success rate")
    share = Rate(found["invalid"], found["actions"])
    yield _row(f"{name}/invalid", share, "share of actions")


def place_row(name: str, condition: str, found: Rate) -> dict:
    """What `Plan.locate` finds under one condition, as a row of results.json."""
    return _row(f"{name}/{condition}/nearest", found, "share of boards")


def answer_rows(name: str, found: list[dict]) -> Iterator[dict]:
    """Exact answers of all kinds, of each kind in all languages, and all together."""
    rates = {row["kind"]: [] for row in found}
    for row in found:
        rates[row["kind"]].append(row["exact"])
    for kind, some in rates.items():
        yield _row(f"{name}/vqa/{kind}", pooled(some), "exact match")
    yield _row(f"{name}/vqa", pooled([row["exact"] for row in found]), "exact match")


def _row(name: str, rate: Rate, unit: str) -> dict:
    figures = {"name": name, "ours": rate.value, "unit": unit, "n": rate.n}
    return figures | {"interval": list(rate.interval)}
