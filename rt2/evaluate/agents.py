"""Who moves the arm in a rollout: the evaluated policy, or a reference policy beside it."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from rt2.evaluate.results import CHECKPOINT
from rt2.sim import goals, oracle
from rt2.sim.tabletop import TabletopEnv

_DRAWS = 50  # of an object and a place that has room
TABLETOP = "tabletop"  # the data set whose policies the embedded simulator can judge


@dataclasses.dataclass
class Running:
    """An episode under way: its environment, the seed it began from, the pictures seen so far."""

    env: TabletopEnv
    seed: int
    pictures: list[np.ndarray]
    steps: int = 0


class Agent(Protocol):
    """Gives one reply, {"actions": float [1, 2] metres, "terminate": bool}, per running episode."""

    name: str
    needs_pictures: bool

    def act(self, running: Sequence[Running]) -> list[dict[str, Any]]: ...


class CheckpointAgent:
    """The evaluated policy, asked about many episodes at once.

    Every request has `batch` rows, the last one repeated where fewer episodes run: a policy
    compiled for one batch size is never compiled again.
    """

    name = CHECKPOINT
    needs_pictures = True

    def __init__(self, policy: Any, batch: int):
        self._policy = policy
        self._batch = batch
        self._history = policy.preprocess.history

    def act(self, running: Sequence[Running]) -> list[dict[str, Any]]:
        """The policy's replies; raises ValueError for more episodes than the batch holds."""
        if len(running) > self._batch:
            raise ValueError(f"{len(running)} episodes do not fit a batch of {self._batch}")
        observations = [
            {
                "image": row.pictures[-self._history :],
                "instruction": row.env.scene.instruction,
                "state": row.env.state.effector,
                "dataset": TABLETOP,
            }
            for row in running
        ]
        observations += observations[-1:] * (self._batch - len(running))
        return self._policy.infer_batch(observations)[: len(running)]


class RandomAgent:
    """Uniform over the action's box: what no policy at all achieves."""

    name = "random"
    needs_pictures = False

    def act(self, running: Sequence[Running]) -> list[dict[str, Any]]:
        """Actions that depend on each episode's seed and step alone."""
        return [_reply(self._draw(row)) for row in running]

    def _draw(self, row: Running) -> np.ndarray:
        box = row.env.action_space
        return np.random.default_rng([row.seed, row.steps]).uniform(box.low, box.high)


class RandomObjectAgent:
    """Solves the task for objects drawn at random: what moving without reading achieves."""

    name = "random object"
    needs_pictures = False

    def act(self, running: Sequence[Running]) -> list[dict[str, Any]]:
        """The oracle's actions for the objects drawn from each episode's seed."""
        return [_reply(oracle.action(self._redirected(row))) for row in running]

    def _redirected(self, row: Running):
        state = row.env.state
        rng, began = np.random.default_rng([row.seed]), row.env.scene.positions
        for _ in range(_DRAWS):
            target, *rest = map(int, rng.permutation(len(began)))
            if state.goal is None:
                return dataclasses.replace(state, target=target)
            goal = goals.draw(rng, state.task, began, target, rest[0] if rest else None)
            if goal:
                return dataclasses.replace(state, target=target, goal=goal)
        return state


class OracleAgent:
    """The scripted demonstrator, which sees the true state: what the task allows."""

    name = "oracle"
    needs_pictures = False

    def act(self, running: Sequence[Running]) -> list[dict[str, Any]]:
        """The oracle's actions."""
        return [_reply(oracle.action(row.env.state)) for row in running]


REFERENCES = (RandomAgent(), RandomObjectAgent(), OracleAgent())


def _reply(action: np.ndarray) -> dict[str, Any]:
    return {"actions": np.asarray(action, np.float32)[None], "terminate": False}
