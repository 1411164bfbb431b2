"""The tabletop as a Gymnasium environment: a picture and an instruction in, a 2-D displacement out.

The action space is Language-Table's: the displacement of the effector's setpoint per step, metres.

    reach      "move to the strawberry"                       the effector touches the target
    push       "push the strawberry to the hammer"            it lies beside the other object
    place      "push the strawberry to the top of the board"  it lies there
    beside     "push the strawberry to the left side of the hammer"
    shift      "push the strawberry a little to the left"
    separate   "separate the strawberry from the hammer"      they began close together

Thresholds: REACH_M, and those of rt2.sim.goals.
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from rt2.sim import goals, physics, render, scenes, splits

MAX_STEP_M = 0.04  # bound of the action, per axis
REACH_M = physics.CONTACT_M + 0.01  # effector's to target's centre
MAX_STEPS = {"reach": 30, "push": 80, "place": 100, "beside": 100, "shift": 80, "separate": 80}
DEFAULT_OBJECTS = 3
MIN_IMAGE_SIZE = 32  # pixels; an object is then 9 across

_RESET_OPTIONS = ("task", "objects", "pool", "num_objects", "language", "say", "background")
_LETTERS = "".join(chr(code) for code in (*range(32, 127), *range(0xC0, 0x180)))


@dataclasses.dataclass(frozen=True)
class State:
    """Where everything is: what the oracle sees and a policy does not. Metres, float64.

    effector [2], positions [N, 2]; target is a row of positions; goal is None for reach.
    """

    task: str
    effector: np.ndarray
    setpoint: np.ndarray
    positions: np.ndarray
    target: int
    goal: goals.Goal | None


class TabletopEnv(gymnasium.Env):
    """One board; `reset(seed=s)` gives the same episode for the same seed and options.

    Observation: {"rgb": uint8 [S, S, 3], "effector_position": float32 [2] metres, "instruction":
    str}.
    Action: float [2], metres, within +-MAX_STEP_M. The setpoint it moves is kept within the
    workspace, as Language-Table does; the action itself is never clipped.
    Reward: 1.0 on the step that succeeds, else 0.0; success terminates, MAX_STEPS[task] truncates.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / physics.CONTROL_PERIOD_S)}

    def __init__(
        self,
        task: str = "reach",
        pool: Sequence[str] | None = None,
        num_objects: int = DEFAULT_OBJECTS,
        image_size: int = 64,
        language: str = "en",
        render_mode: str | None = "rgb_array",
    ) -> None:
        """pool: English names to draw objects from, by default those of the robot data."""
        if image_size < MIN_IMAGE_SIZE:
            raise ValueError(
                f"image_size {image_size}: at least {MIN_IMAGE_SIZE} pixels are needed"
            )
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode {render_mode!r} is not there; use 'rgb_array' or None")
        self.render_mode = render_mode
        self.image_size = image_size
        self._defaults = {
            "task": task,
            "pool": pool,
            "num_objects": num_objects,
            "language": language,
            "background": "board",
        }
        low, high = physics.WORKSPACE_M
        self.action_space = gymnasium.spaces.Box(-MAX_STEP_M, MAX_STEP_M, (2,), np.float32)
        self.observation_space = gymnasium.spaces.Dict(
            {
                "rgb": gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
                "effector_position": gymnasium.spaces.Box(
                    low - 0.01, high + 0.01, (2,), np.float32
                ),
                "instruction": gymnasium.spaces.Text(max_length=160, charset=_LETTERS),
            }
        )
        self._scene: scenes.Scene | None = None

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begins an episode and returns its first observation and info.

        options, all optional: "task", one of `scenes.TASKS`; "objects": English names, the first
        the target, the second what a goal refers to; or "pool" and "num_objects" to draw them;
        "language" of the instruction; "say": what it calls the target, instead of its name;
        "background": "board", "plain" or "patterned" (`rt2.sim.backgrounds`). Raises ValueError
        for an unknown option, task, language, name or background.
        """
        super().reset(seed=seed)
        self._scene = self._sample(dict(options or {}))
        self._boards: dict[int, np.ndarray] = {}
        self._world = physics.World(self._scene.positions, self._scene.angles, self._scene.effector)
        self._steps = 0
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Moves the setpoint by `action`, float [2] in metres, and lets one control period pass.

        Raises ValueError for an action of another shape, not finite, or out of +-MAX_STEP_M.
        """
        if self._scene is None:
            raise RuntimeError("step() before reset(): call env.reset(seed=...) first")
        self._world.advance(checked_action(action))
        self._steps += 1
        info = self._info()
        truncated = not info["success"] and self._steps >= MAX_STEPS[self._scene.task]
        return self._observation(), float(info["success"]), info["success"], truncated, info

    def render(self) -> np.ndarray | None:
        """Returns the current picture, uint8 [S, S, 3]; None with render_mode None."""
        return None if self.render_mode is None else self.frame(self.image_size)

    def frame(self, size: int) -> np.ndarray:
        """Returns the current picture at another size: uint8 [size, size, 3]."""
        scene, world = self.scene, self._world
        return render.tabletop_frame(
            self._board(size), scene.names, world.positions, world.angles, world.effector
        )

    @property
    def scene(self) -> scenes.Scene:
        """How this episode began."""
        if self._scene is None:
            raise RuntimeError("no episode yet: call env.reset(seed=...) first")
        return self._scene

    @property
    def state(self) -> State:
        """Where everything is now."""
        scene, world = self.scene, self._world
        return State(
            scene.task, world.effector, world.setpoint, world.positions, scene.target, scene.goal
        )

    def _sample(self, options: dict[str, Any]) -> scenes.Scene:
        for key in options:
            if key not in _RESET_OPTIONS:
                near = difflib.get_close_matches(key, _RESET_OPTIONS, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ValueError(
                    f"reset option {key!r}: {hint}options: {', '.join(_RESET_OPTIONS)}"
                )
        chosen = {**self._defaults, **options}
        names = chosen.get("objects")
        if names is None:
            names = self._draw(chosen["pool"], chosen["num_objects"])
        options = (chosen["language"], chosen.get("say"), chosen["background"])
        return scenes.sample(self.np_random, chosen["task"], names, *options)

    def _board(self, size: int) -> np.ndarray:
        """The empty board of this episode: uint8 [size, size, 3]."""
        if size not in self._boards:
            self._boards[size] = self.scene.board(size)
        return self._boards[size].copy()

    def _draw(self, pool: Sequence[str] | None, count: int) -> tuple[str, ...]:
        names = splits.load().seen_by_robot if pool is None else tuple(pool)
        if not 1 <= count <= len(names):
            raise ValueError(
                f"num_objects {count} cannot be drawn from a pool of {len(names)} names"
            )
        return tuple(names[i] for i in self.np_random.choice(len(names), count, replace=False))

    def _observation(self) -> dict[str, Any]:
        return {
            "rgb": self.frame(self.image_size),
            "effector_position": self._world.effector.astype(np.float32),
            "instruction": self.scene.instruction,
        }

    def _info(self) -> dict[str, Any]:
        state, names = self.state, self.scene.names
        distance = distance_left(state)
        return {
            "success": distance <= 0.0,
            "distance": distance,
            "task": state.task,
            "target": names[state.target],
            "goal": _said(state.goal, names),
        }


def distance_left(state: State) -> float:
    """Returns the metres missing to success: negative or zero once the task is done."""
    if state.goal is None:
        return math.hypot(*(state.positions[state.target] - state.effector)) - REACH_M
    return state.goal.missing(state.positions, state.target)


def _said(goal: goals.Goal | None, names: Sequence[str]) -> str:
    """The goal in words: "" for none, else its place and the object it refers to."""
    if goal is None:
        return ""
    return " ".join(filter(None, (goal.words, "" if goal.row is None else names[goal.row])))


def checked_action(action: np.ndarray) -> np.ndarray:
    """Returns the action as float64 [2]; ValueError for a wrong shape, value or bound."""
    values = np.asarray(action, np.float64)
    if values.shape != (2,):
        raise ValueError(f"an action is (dx, dy) in metres, shape (2,); got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"action {values} is not finite: check the policy's output")
    if np.abs(values).max() > MAX_STEP_M * (1 + 1e-6):
        raise ValueError(
            f"action {values} is out of bounds: dx, dy must lie within +-{MAX_STEP_M} m per step; "
            "scale it, or send it in several steps"
        )
    return values
