"""How an episode begins: which objects stand where, and what is asked of the robot."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from rt2.sim import physics, pictograms, render

TASKS = ("reach", "push")
INSTRUCTIONS = {
    "reach": ("move to the {target}", "go to the {target}", "reach the {target}"),
    "push": ("push the {target} to the {goal}", "move the {target} to the {goal}"),
}
MAX_OBJECTS = 5
SEPARATION_M = 0.18  # least distance of two objects' centres at the start
PUSH_SEPARATION_M = 0.26  # and of the two that a push is to bring together
# Effector to an object's drawn edge at the start, by the number of objects.
CLEARANCE_M = {1: 0.12, 2: 0.12, 3: 0.12, 4: 0.09, 5: 0.05}
TILT_RAD = math.radians(25)
TINT_SPREAD = 12.0  # the board's colour varies by so much per channel, of 255

_DARTS = 30  # throws for one place before the whole layout is drawn again
_LAYOUTS = 500


@dataclasses.dataclass(frozen=True)
class Scene:
    """The start of an episode.

    names: N English names; positions: float64 [N, 2] metres; angles: float64 [N] radians; effector:
    float64 [2] metres; tint: board colour, RGB 0..255. `target` and `goal` are rows of `names`;
    goal is None where the task has none. instruction: the sentence given to the robot.
    """

    task: str
    names: tuple[str, ...]
    positions: np.ndarray
    angles: np.ndarray
    effector: np.ndarray
    tint: tuple[float, float, float]
    target: int
    goal: int | None
    instruction: str


def sample(
    rng: np.random.Generator, task: str, names: Sequence[str], language: str = "en"
) -> Scene:
    """Returns a random scene of these objects: first the target, then, for a push, its goal.

    Raises ValueError for an unknown task or language, a name twice, or a number of objects out of
    range, or a name that is no pictogram's.
    """
    _check(task, names, language)
    positions, effector = _layout(rng, task, len(names))
    said = [pictograms.load().translate(name, language) for name in names]
    template = INSTRUCTIONS[task][rng.integers(len(INSTRUCTIONS[task]))]
    return Scene(
        task=task,
        names=tuple(names),
        positions=positions,
        angles=rng.uniform(-TILT_RAD, TILT_RAD, len(names)),
        effector=effector,
        tint=tuple(render.BOARD_RGB + rng.uniform(-TINT_SPREAD, TINT_SPREAD, 3)),
        target=0,
        goal=1 if task == "push" else None,
        instruction=template.format(target=said[0], goal=said[1] if task == "push" else ""),
    )


def _check(task: str, names: Sequence[str], language: str) -> None:
    if task not in TASKS:
        raise ValueError(f"no task is called {task!r}; tasks: {', '.join(TASKS)}")
    if language not in pictograms.LANGUAGES:
        raise ValueError(f"no language {language!r}; languages: {', '.join(pictograms.LANGUAGES)}")
    least = 2 if task == "push" else 1
    if not least <= len(names) <= MAX_OBJECTS:
        raise ValueError(f"{task} takes {least} to {MAX_OBJECTS} objects, not {len(names)}")
    if len(set(names)) != len(names):
        raise ValueError(f"each object may stand in a scene once; got {', '.join(names)}")


def _layout(rng: np.random.Generator, task: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws layouts until all keep their distances: positions [N, 2], effector [2]."""
    least = CLEARANCE_M[count] + render.OBJECT_DIAMETER_M / 2
    for _ in range(_LAYOUTS):
        positions: list[np.ndarray] = []
        for i in range(count):
            gap = PUSH_SEPARATION_M if task == "push" and i == 1 else SEPARATION_M
            positions += _dart(rng, physics.OBJECT_RANGE_M, positions, gap)
        effector = _dart(rng, physics.WORKSPACE_M, positions, least)
        if len(positions) == count and effector:
            return np.array(positions), effector[0]
    raise RuntimeError(
        f"no layout of {count} objects in {_LAYOUTS} draws: lower SEPARATION_M or CLEARANCE_M"
    )


def _dart(
    rng: np.random.Generator, span: tuple[float, float], taken: Sequence[np.ndarray], gap: float
) -> list[np.ndarray]:
    """Returns one point of the square, at least `gap` from all taken; [] if no throw hits one."""
    for point in rng.uniform(*span, (_DARTS, 2)):
        if all(math.hypot(*(point - other)) >= gap for other in taken):
            return [point]
    return []
