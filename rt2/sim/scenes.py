"""How an episode begins: which objects stand where, and what is asked of the robot."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from rt2.sim import backgrounds, goals, physics, pictograms, render

INSTRUCTIONS = {
    "reach": ("move to the {target}", "go to the {target}", "reach the {target}"),
    "push": ("push the {target} to the {other}", "move the {target} to the {other}"),
    "place": (
        "push the {target} to the {words} of the board",
        "move the {target} to the {words} of the board",
    ),
    "beside": (
        "push the {target} to the {words} side of the {other}",
        "move the {target} to the {words} side of the {other}",
    ),
    "shift": ("push the {target} {words}", "move the {target} {words}"),
    "separate": (
        "separate the {target} from the {other}",
        "move the {target} away from the {other}",
    ),
}
TASKS = tuple(INSTRUCTIONS)
WITH_OTHER = ("push", "beside", "separate")  # the tasks that name a second object
MAX_OBJECTS = 5
SEPARATION_M = 0.18  # least distance of two objects' centres at the start
PUSH_SEPARATION_M = 0.26  # and of the two that a push is to bring together
CLOSE_M = (0.15, 0.18)  # distance of two that are to be separated
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
    float64 [2] metres; tint: board colour, RGB 0..255; target: a row of `names`; goal: where it is
    to be, None where it is only to be reached. instruction: the sentence given to the robot.
    background: what kind of board it is; backdrop: the seed of one that is not the robot's own.
    """

    task: str
    names: tuple[str, ...]
    positions: np.ndarray
    angles: np.ndarray
    effector: np.ndarray
    tint: tuple[float, float, float]
    target: int
    goal: goals.Goal | None
    instruction: str
    background: str
    backdrop: int

    def board(self, size: int) -> np.ndarray:
        """Returns the empty board: uint8 [size, size, 3]."""
        if self.background == "board":
            return render.board(size, self.tint)
        rng = np.random.default_rng(self.backdrop)
        return backgrounds.draw(rng, size, backgrounds.BOARDS[self.background])


def sample(
    rng: np.random.Generator,
    task: str,
    names: Sequence[str],
    language: str = "en",
    say: str | None = None,
    background: str = "board",
) -> Scene:
    """Returns a random scene of these objects: first the target, then the one its goal refers to.

    say: what the instruction calls the target, by default its name. background: "board", the
    robot's own, or a key of `backgrounds.BOARDS`.

    Raises ValueError for an unknown task, language or background, a name twice, or a number of
    objects out of range, or a name that is no pictogram's.
    """
    _check(task, names, language, background)
    positions, effector, goal = _layout(rng, task, len(names))
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
        goal=goal,
        instruction=template.format(
            target=say or said[0],
            other=said[1] if task in WITH_OTHER else "",
            words=goal.words if goal else "",
        ),
        background=background,
        backdrop=int(rng.integers(2**31)),
    )


def _check(task: str, names: Sequence[str], language: str, background: str) -> None:
    if task not in TASKS:
        raise ValueError(f"no task is called {task!r}; tasks: {', '.join(TASKS)}")
    if language not in pictograms.LANGUAGES:
        raise ValueError(f"no language {language!r}; languages: {', '.join(pictograms.LANGUAGES)}")
    if background not in (known := ("board", *backgrounds.BOARDS)):
        raise ValueError(f"no background {background!r}; backgrounds: {', '.join(known)}")
    least = 2 if task in WITH_OTHER else 1
    if not least <= len(names) <= MAX_OBJECTS:
        raise ValueError(f"{task} takes {least} to {MAX_OBJECTS} objects, not {len(names)}")
    if len(set(names)) != len(names):
        raise ValueError(f"each object may stand in a scene once; got {', '.join(names)}")


def _layout(
    rng: np.random.Generator, task: str, count: int
) -> tuple[np.ndarray, np.ndarray, goals.Goal | None]:
    """Draws layouts until all keep their distances: positions [N, 2], effector [2], the goal."""
    least = CLEARANCE_M[count] + render.OBJECT_DIAMETER_M / 2
    for _ in range(_LAYOUTS):
        placed: list[np.ndarray] = []
        for i in range(count):
            if task == "separate" and i == 1:
                placed += _close(rng, placed)
            else:
                gap = PUSH_SEPARATION_M if task == "push" and i == 1 else SEPARATION_M
                placed += _dart(rng, physics.OBJECT_RANGE_M, placed, gap)
        effector = _dart(rng, physics.WORKSPACE_M, placed, least)
        if len(placed) == count and effector:
            positions = np.array(placed)
            if task == "reach":
                return positions, effector[0], None
            if goal := goals.draw(rng, task, positions, 0, 1):
                return positions, effector[0], goal
    raise RuntimeError(
        f"no layout of {count} objects in {_LAYOUTS} draws: lower SEPARATION_M or CLEARANCE_M"
    )


def _close(rng: np.random.Generator, taken: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns one point CLOSE_M from the only object taken; [] if no throw hits the board."""
    for angle in rng.uniform(0, 2 * math.pi, _DARTS):
        point = taken[0] + rng.uniform(*CLOSE_M) * np.array([math.cos(angle), math.sin(angle)])
        if (point == np.clip(point, *physics.OBJECT_RANGE_M)).all():
            return [point]
    return []


def _dart(
    rng: np.random.Generator, span: tuple[float, float], taken: Sequence[np.ndarray], gap: float
) -> list[np.ndarray]:
    """Returns one point of the square, at least `gap` from all taken; [] if no throw hits one."""
    for point in rng.uniform(*span, (_DARTS, 2)):
        if all(math.hypot(*(point - other)) >= gap for other in taken):
            return [point]
    return []
