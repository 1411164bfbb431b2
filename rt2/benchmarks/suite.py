"""What a benchmark is: tasks, their episodes, pictures and instructions out, actions in."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from rt2.robot.client import NoReplyError

WAITS = (0.5, 5.0)  # seconds before a second and a third attempt to begin an episode
Observation = dict[str, Any]  # as `rt2.inference.policy.Policy` takes it


class Suite(Protocol):
    """A simulator with the protocol of its benchmark.

    dataset: whose actions it takes, a name of rt2/data/sets. tasks: their names. episodes: how many
    of each the protocol has. idle: the action that moves nothing, float [D].
    """

    name: str
    dataset: str
    tasks: tuple[str, ...]
    episodes: int
    idle: np.ndarray

    def begin(self, task: str, episode: int) -> Observation:
        """The first observation of an episode: `image` uint8 [H, W, 3], `instruction`, `state`.

        The episodes of a task are begun in order, from 0.
        """

    def step(self, action: np.ndarray) -> tuple[Observation, bool, bool]:
        """Carries out float [D] in the data set's units: observation, success, the end."""


class Served(Protocol):
    """`rt2.robot.client.Client`, or what does as much."""

    def infer(self, observation: Mapping[str, Any]) -> Mapping[str, Any]: ...

    def reset(self) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Played:
    """An episode; `invalid` counts replies without a finite action: the arm idled instead."""

    task: str
    episode: int
    instruction: str
    success: bool
    steps: int
    invalid: int


def play(
    suite: Suite,
    policy: Served,
    episodes: int,
) -> Iterator[Played]:
    """Yields the first `episodes` of every task, in order.

    A reply that says `hold` idles; one that terminates ends the episode as it is.
    """
    for task in suite.tasks:
        for episode in range(episodes):
            yield _episode(suite, policy, task, episode)


def _episode(suite: Suite, policy: Served, task: str, episode: int) -> Played:
    seen = suite.begin(task, episode)
    _reset(policy)
    instruction, steps, invalid = seen["instruction"], 0, 0
    success = over = False
    while not over:
        reply = policy.infer(seen | {"dataset": suite.dataset})
        action = finite_action(reply, len(suite.idle))
        invalid += action is None
        if action is not None and reply.get("terminate"):
            break
        if action is None or reply.get("hold"):
            action = suite.idle
        seen, success, over = suite.step(action)
        steps += 1
    return Played(task, episode, instruction, success, steps, invalid)


def _reset(policy: Served) -> None:
    """Begins an episode; a connection that a long start of the simulator cost is made again."""
    for wait in WAITS:
        try:
            policy.reset()
            return
        except NoReplyError:
            time.sleep(wait)
    policy.reset()


def finite_action(reply: Mapping[str, Any], size: int) -> np.ndarray | None:
    """The reply's first action, float64 [size]; None where it has none that is finite."""
    try:
        action = np.asarray(reply["actions"], np.float64)[0]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return action if action.shape == (size,) and np.isfinite(action).all() else None
