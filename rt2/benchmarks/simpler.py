"""A policy as SimplerEnv's runners (Li et al. 2024) drive one: `reset`, `step`.

    policy = SimplerPolicy(Client("ws://127.0.0.1:8000").infer, "google_robot")

Rotations go from roll, pitch and yaw to an axis and angle, the gripper to each robot's own command,
as SimplerEnv's `OpenVLAInference` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from rt2.benchmarks.suite import finite_action
from rt2.errors import UserError

DATASETS = {"google_robot": "fractal20220817_data", "widowx_bridge": "bridge_orig"}
STICKY = 15  # steps for which the Google robot's gripper goes on with what it began


class NoActionError(UserError):
    """The policy gave no action that can be carried out."""


class SimplerPolicy:
    """`ask` is any client's or policy's `infer`; `dataset` by default that of the robot."""

    def __init__(
        self,
        ask: Callable[[dict[str, Any]], Mapping[str, Any]],
        robot: str,
        dataset: str | None = None,
    ):
        if robot not in DATASETS:
            raise UserError(f"robot: {robot!r}, expected one of {', '.join(DATASETS)}")
        self._ask, self._robot = ask, robot
        self._dataset = dataset or DATASETS[robot]
        self.reset("")

    def reset(self, task_description: str) -> None:
        """Begins an episode."""
        self._said = task_description
        self._open: float | None = None
        self._sticky, self._left = 0.0, 0

    def step(
        self, image: np.ndarray, task_description: str | None = None, *_: Any, **__: Any
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The policy's action and the simulator's, for a picture uint8 [H, W, 3].

        Both have `world_vector` [3] metres; the first `rotation_delta` [3] radians and
        `open_gripper` [1], the second `rot_axangle` [3], `gripper` [1] and `terminate_episode` [1].
        Another task description begins another episode. Raises NoActionError.
        """
        if task_description is not None and task_description != self._said:
            self.reset(task_description)
        row = {"image": image, "instruction": self._said, "dataset": self._dataset}
        reply = self._ask(row)
        action = finite_action(reply, 7)
        if action is None:
            raise NoActionError(f"no action of 7 numbers in the reply: {sorted(reply)}")
        raw = {
            "world_vector": action[:3],
            "rotation_delta": action[3:6],
            "open_gripper": action[6:],
        }
        return raw, {
            "world_vector": action[:3],
            "rot_axangle": Rotation.from_euler("xyz", action[3:6]).as_rotvec(),
            "gripper": np.array([self._gripper(float(action[6]))]),
            "terminate_episode": np.array([float(bool(reply.get("terminate")))]),
        }

    def visualize_epoch(self, *_: Any, **__: Any) -> None:
        """Draws nothing; the runners call it after every episode."""

    def _gripper(self, opened: float) -> float:
        """The command for a gripper that is to be `opened`, 0 to 1.

        The WidowX takes 1 open, -1 closed. The Google robot takes changes, 1 to close, and keeps to
        one for STICKY steps.
        """
        if self._robot == "widowx_bridge":
            return 1.0 if opened > 0.5 else -1.0
        change = 0.0 if self._open is None else self._open - opened
        self._open = opened
        if abs(change) > 0.5 and not self._left:
            self._sticky, self._left = change, STICKY
        if self._left:
            self._left -= 1
            return self._sticky
        return change
