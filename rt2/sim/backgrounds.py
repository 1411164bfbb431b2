"""What lies behind the objects of a web picture: plain, striped, checked, noisy, mottled."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from rt2.sim import render

_PATTERN_CONTRAST = 40  # colours of one pattern stay this close, so that objects stand out from it


Kind = Callable[[np.random.Generator, int], np.ndarray]


def draw(rng: np.random.Generator, size: int, kinds: Sequence[Kind] | None = None) -> np.ndarray:
    """Returns a random background: uint8 [size, size, 3], its kind one of `kinds`, else KINDS."""
    kinds = KINDS if kinds is None else kinds
    kind = kinds[rng.integers(len(kinds))]
    return np.clip(kind(rng, size), 0, 255).astype(
        np.uint8
    )  # pixels outside 0..255 are noise's tails


def _colour(rng: np.random.Generator) -> np.ndarray:
    """A random RGB, not too dark for the outlines to show: float [3]."""
    return rng.uniform(90, 255) * (1 - 0.5 * rng.random(3))


def _near(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    return colour + rng.uniform(-_PATTERN_CONTRAST, _PATTERN_CONTRAST, 3)


def _mix(mask: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first + mask[..., None] * (second - first)


def _ramp(rng: np.random.Generator, size: int) -> np.ndarray:
    """A plane tilted in a random direction: float [size, size], 0..1 along it."""
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-0.5, 0.5, size)
    return (np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]) / np.sqrt(2) + 0.5


def _board(rng: np.random.Generator, size: int) -> np.ndarray:
    return render.board(size, render.BOARD_RGB + rng.uniform(-14, 14, 3))


def _plain(rng: np.random.Generator, size: int) -> np.ndarray:
    return render.board(size, _colour(rng))


def _graded(rng: np.random.Generator, size: int) -> np.ndarray:
    return _mix(_ramp(rng, size), _colour(rng), _colour(rng))


def _striped(rng: np.random.Generator, size: int) -> np.ndarray:
    colour = _colour(rng)
    stripes = (_ramp(rng, size) * rng.integers(3, 12)) % 1.0 < rng.uniform(0.3, 0.7)
    return _mix(stripes.astype(float), colour, _near(rng, colour))


def _checked(rng: np.random.Generator, size: int) -> np.ndarray:
    colour, cells = _colour(rng), rng.integers(3, 12)
    axis = np.arange(size) * cells // size
    return _mix((axis[:, None] + axis[None, :]) % 2.0, colour, _near(rng, colour))


def _noisy(rng: np.random.Generator, size: int) -> np.ndarray:
    grain = rng.standard_normal((size, size, 3), dtype=np.float32)
    return _colour(rng) + rng.uniform(4, 18) * grain


def _mottled(rng: np.random.Generator, size: int) -> np.ndarray:
    cells = rng.integers(3, 10)
    coarse = rng.random((cells, cells), dtype=np.float32)
    colour = _colour(rng)
    mask = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return _mix(mask, colour, _near(rng, colour))


# The robot's own kind of board twice.
KINDS = (_board, _board, _plain, _graded, _striped, _checked, _noisy, _mottled)
# Of the tabletop's boards that are not the robot's own.
BOARDS = {"plain": (_plain,), "patterned": (_graded, _striped, _checked, _noisy, _mottled)}
