"""The web's part of the data: pictures of a few named things, with questions and answers."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rt2.sim import backgrounds, questions, render, splits

SINGLE_SHARE = 0.4  # scenes of one object; the others hold two or more
MAX_OBJECTS = 6  # more find no room in the picture, nor in an answer that lists them
DEFAULT_OBJECTS = 4  # the most, where nothing else is asked for
SCALE = (0.7, 1.5)
SINGLE_SCALE = (0.7, 2.5)
TILT_RAD = math.radians(30)
BRIGHTNESS = (0.75, 1.15)

_PLACING_TRIES = 40


class WebScene(NamedTuple):
    """image: uint8 [S, S, 3]; qa: the rows about it; objects: its things from left to right."""

    image: np.ndarray
    qa: list[questions.Row]
    objects: list[questions.Placed]


class _Thing(NamedTuple):
    name: str
    x: float  # metres on a board that the picture covers
    y: float
    scale: float
    angle: float


def web_scene(
    seed: int | Sequence[int],
    image_size: int = 64,
    names: Sequence[str] | None = None,
    descriptions: bool = False,
    objects: int = DEFAULT_OBJECTS,
) -> WebScene:
    """Returns the web scene of this seed, always the same one.

    names: English names to choose from; by default all that the web may show (rt2.sim.splits).
    descriptions: whether there are rows of `questions.describing_rows` too, behind the others.
    objects: how many a scene holds at most.
    """
    rng = np.random.default_rng(seed)
    pool = splits.load().web if names is None else tuple(names)
    things = _place(rng, pool, objects)
    image = backgrounds.draw(rng, image_size)
    for thing in things:
        render.draw_object(image, thing.name, thing.x, thing.y, thing.angle, thing.scale)
    image = _brightened(image, rng.uniform(*BRIGHTNESS))
    things.sort(key=lambda thing: thing.x)
    placed = [
        questions.Placed(
            t.name, questions.cell(t.x / render.BOARD_M), questions.cell(t.y / render.BOARD_M)
        )
        for t in things
    ]
    qa = questions.rows(rng, placed)
    if descriptions:
        qa += questions.describing_rows(rng, placed)
    return WebScene(image, qa, placed)


def _place(rng: np.random.Generator, pool: Sequence[str], most: int) -> list[_Thing]:
    """Draws distinct objects that do not overlap, each with a bounded search for room."""
    count = 1 if rng.random() < SINGLE_SHARE else int(rng.integers(2, most + 1))
    if len(pool) < count:
        raise ValueError(
            f"a scene of {count} distinct objects cannot be drawn from {len(pool)} names"
        )
    scales = rng.uniform(*(SINGLE_SCALE if count == 1 else SCALE), size=count)
    things: list[_Thing] = []
    for i, scale in zip(rng.choice(len(pool), count, replace=False), scales, strict=True):
        for _ in range(_PLACING_TRIES):
            margin = 0.45 * scale * render.OBJECT_DIAMETER_M
            x, y = rng.uniform(margin, render.BOARD_M - margin, 2)
            if all(_apart(x, y, scale, other) for other in things):
                things.append(_Thing(pool[i], x, y, scale, rng.uniform(-TILT_RAD, TILT_RAD)))
                break
    return things


def _apart(x: float, y: float, scale: float, other: _Thing) -> bool:
    distance = math.hypot(x - other.x, y - other.y)
    return distance > 0.5 * (scale + other.scale) * render.OBJECT_DIAMETER_M


def _brightened(image: np.ndarray, factor: float) -> np.ndarray:
    table = np.minimum(np.arange(256) * factor, 255).astype(np.uint8)
    return table[image]
