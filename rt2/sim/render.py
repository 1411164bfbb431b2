"""A CPU rasteriser for boards with pictograms: numpy and opencv, no GL.

Pictures are uint8 [S, S, 3] RGB. Positions are in board units: x to the right, y down, the square
board covering the whole picture, so that pixel column = x / BOARD_M * S.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from rt2.sim import pictograms

BOARD_M = 0.6  # side of the square board, metres
OBJECT_DIAMETER_M = 0.17  # longer side of an object as drawn at scale 1
EFFECTOR_DRAWN_RADIUS_M = 0.024  # more than the solid disc, so that it is found in 64 px
EFFECTOR_RING_M = 0.036
BOARD_RGB = (236, 232, 224)

_OVERSAMPLE = 1.5  # sprites are drawn from this many times their size: rotation keeps them sharp
_SHIFT = 4  # fractional bits of the circle's coordinates


def board(size: int, tint: Sequence[float] = BOARD_RGB) -> np.ndarray:
    """Returns an empty board of one colour: uint8 [size, size, 3]."""
    return np.full((size, size, 3), np.asarray(tint, np.uint8))


def draw_object(
    image: np.ndarray, name: str, x: float, y: float, angle: float = 0.0, scale: float = 1.0
) -> None:
    """Blends one pictogram into `image` in place.

    x, y: its centre in metres; angle: radians, clockwise as seen; scale: 1 draws OBJECT_DIAMETER_M
    across. Raises ValueError for a name that is no pictogram's.
    """
    size = image.shape[0]
    across = scale * OBJECT_DIAMETER_M / BOARD_M * size
    sprite = pictograms.sprite(name, max(1, round(across * _OVERSAMPLE)))
    centre_x, centre_y = x / BOARD_M * size - 0.5, y / BOARD_M * size - 0.5
    reach = across * 0.7072 + 1
    left, right = max(0, math.floor(centre_x - reach)), min(size, math.ceil(centre_x + reach) + 1)
    top, bottom = max(0, math.floor(centre_y - reach)), min(size, math.ceil(centre_y + reach) + 1)
    if left >= right or top >= bottom:
        return
    shrink = across / sprite.shape[0]
    cos, sin, middle = math.cos(angle) * shrink, math.sin(angle) * shrink, (sprite.shape[0] - 1) / 2
    matrix = np.array(
        [
            [cos, -sin, centre_x - left - cos * middle + sin * middle],
            [sin, cos, centre_y - top - sin * middle - cos * middle],
        ]
    )
    patch = cv2.warpAffine(sprite, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    _blend(image[top:bottom, left:right], patch)


def draw_effector(image: np.ndarray, x: float, y: float) -> None:
    """Draws the end-effector, a dark disc in a light ring, centred at x, y metres, in place."""
    size = image.shape[0]
    metres = size / BOARD_M * (1 << _SHIFT)
    half = (1 << _SHIFT) // 2
    centre = (round(x * metres) - half, round(y * metres) - half)
    ring, disc = round(EFFECTOR_RING_M * metres), round(EFFECTOR_DRAWN_RADIUS_M * metres)
    cv2.circle(image, centre, ring, (255, 255, 255), -1, cv2.LINE_AA, _SHIFT)
    cv2.circle(image, centre, disc, (40, 20, 90), -1, cv2.LINE_AA, _SHIFT)


def tabletop_frame(
    image: np.ndarray,
    names: Sequence[str],
    positions: np.ndarray,
    angles: np.ndarray,
    effector: Sequence[float],
) -> np.ndarray:
    """Draws the camera's picture of a tabletop on `image`, uint8 [S, S, 3], and returns it.

    positions: [N, 2] metres; angles: [N] radians; effector: (x, y) metres, drawn above the objects.
    """
    for name, (x, y), angle in zip(names, positions, angles, strict=True):
        draw_object(image, name, x, y, angle)
    draw_effector(image, effector[0], effector[1])
    return image


def _blend(region: np.ndarray, patch: np.ndarray) -> None:
    """Lays premultiplied RGBA uint8 [h, w, 4] over RGB uint8 [h, w, 3] in place."""
    covered = region.astype(np.uint16) * (255 - patch[..., 3:].astype(np.uint16)) + 127
    np.minimum(covered // 255 + patch[..., :3], 255, out=region, casting="unsafe")
