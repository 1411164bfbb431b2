"""Language-Table in simulation (Lynch et al. 2022), as its `language_table/eval/main.py` has it.

Five families of 50 episodes on eight blocks, 10 Hz, at most 201 steps. The environment of a family
is made once, with seed 0, and goes on from episode to episode; a start for which the oracle finds
no plan is drawn again. Install it as its README says; it is imported when a suite is made.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from rt2.benchmarks.suite import Observation
from rt2.errors import UserError

REWARDS = {  # family -> module and class of language_table.environments.rewards
    "blocktoblock": ("block2block", "BlockToBlockReward"),
    "blocktoabsolutelocation": ("block2absolutelocation", "BlockToAbsoluteLocationReward"),
    "blocktoblockrelativelocation": (
        "block2block_relative_location",
        "BlockToBlockRelativeLocationReward",
    ),
    "blocktorelativelocation": ("block2relativelocation", "BlockToRelativeLocationReward"),
    "separate": ("separate_blocks", "SeparateBlocksReward"),
}
LAST_STEP = 201  # the official loop ends after more than 200 steps
MAX_STEP_M = 0.1  # bound of the environment's action, per axis


class LanguageTableMissingError(UserError):
    """The benchmark's own packages are not installed."""


class LanguageTable:
    """See `rt2.benchmarks.suite.Suite`; actions are metres per step."""

    name = "language_table"
    dataset = "language_table"
    tasks = tuple(REWARDS)
    episodes = 50
    idle = np.zeros(2)

    def __init__(self) -> None:
        self._table = _package("environments.language_table")
        self._blocks = _package("environments.blocks")
        self._oracles = _package("environments.oracles.push_oracle_rrt_slowdown")
        self._env: Any = None
        self._next: tuple[str, int] | None = None
        self._steps = 0

    def begin(self, task: str, episode: int) -> Observation:
        """The first observation; raises ValueError for an episode out of its order."""
        if episode == 0:
            self._env = self._make(task)
        elif self._next != (task, episode):
            raise ValueError(f"{task}, episode {episode}: begin them in order, from 0")
        self._next, self._steps = (task, episode + 1), 0
        planner = self._oracles.ObstacleOrientedPushOracleBoard2dRRT(self._env, use_ee_planner=True)
        while True:
            seen = self._env.reset()
            if planner.get_plan(self._env.compute_state()):
                return _read(seen)

    def step(self, action: np.ndarray) -> tuple[Observation, bool, bool]:
        """One step of 0.1 s; the episode ends with its first success."""
        bounded = np.clip(action, -MAX_STEP_M, MAX_STEP_M).astype(np.float32)
        seen, _, done, _ = self._env.step(bounded)
        self._steps += 1
        return _read(seen), bool(self._env.succeeded), bool(done) or self._steps >= LAST_STEP

    def _make(self, task: str) -> Any:
        np.random.seed(0)  # some rewards draw their words from numpy's global generator
        module, reward = REWARDS[task]
        return self._table.LanguageTable(
            block_mode=self._blocks.LanguageTableBlockVariants.BLOCK_8,
            reward_factory=getattr(_package(f"environments.rewards.{module}"), reward),
            seed=0,
        )


def _package(name: str) -> Any:
    try:
        return importlib.import_module(f"language_table.{name}")
    except ImportError as error:
        raise LanguageTableMissingError(
            f"language_table: {error}. Install google-research/language-table into this "
            "environment, as its README says"
        ) from None


def _read(seen: dict[str, np.ndarray]) -> Observation:
    letters = np.asarray(seen["instruction"])
    return {
        "image": np.asarray(seen["rgb"], np.uint8),
        "instruction": bytes(letters[letters != 0].astype(np.uint8).tolist()).decode("utf-8"),
        "state": np.asarray(seen["effector_translation"], np.float32),
    }
