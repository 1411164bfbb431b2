"""Episodes to look at: every camera's pictures over time, the actions as a strip of colour."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from rt2.data import image
from rt2.data.errors import DataError
from rt2.data.rlds import RldsSteps
from rt2.data.robot import RobotExamples

FRAMES, WIDTH, QUALITY = 6, 200, 82  # pictures an episode and camera, their largest width, WebP's
RISE, FALL = (47, 111, 237), (217, 119, 6)  # RGB above and below the middle of the bounds


class Film(NamedTuple):
    """Pictures (WebP) of one camera at `steps` of an episode."""

    camera: str
    steps: tuple[int, ...]
    pictures: tuple[bytes, ...]


class Episode(NamedTuple):
    """One episode: its number in the split, its length, instruction and films.

    `actions` is a PNG of one row of pixels a dimension and one column a step; None where the set
    cannot be trained on as it is.
    """

    number: int
    length: int
    instruction: str
    films: tuple[Film, ...]
    actions: bytes | None


def episodes(
    steps: RldsSteps, examples: RobotExamples | None, cameras: Sequence[str], count: int
) -> list[Episode]:
    """`count` episodes spread evenly over those that `examples` trains on (None: over all)."""
    if examples is None:
        total = steps.split.episodes
        return [
            _episode(steps, number, cameras, None, range(0)) for number in _spread(total, count)
        ]
    starts, found = examples.episode_starts, []
    for i in _spread(examples.episodes, count):
        inside = range(int(starts[i]), int(starts[i + 1]))
        number, _ = steps.position(examples.row(inside[0]))
        found.append(_episode(steps, number, cameras, examples, inside))
    return found


def _spread(total: int, count: int) -> list[int]:
    """`count` numbers of 0 .. total - 1, the first and the last among them."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(int)).tolist()


def _episode(steps: RldsSteps, number: int, cameras, examples, inside: range) -> Episode:
    begin, end = map(int, steps.split.column("episode.first")[number : number + 2])
    shown = _spread(end - begin, FRAMES)
    films = [
        Film(camera, tuple(shown), tuple(_webp(steps, camera, begin + step) for step in shown))
        for camera in cameras
    ]
    instruction = examples.instruction(inside[0]) if inside else ""
    actions = _strip(examples, inside, begin, end - begin) if inside else None
    return Episode(number, end - begin, instruction, tuple(films), actions)


def _webp(steps: RldsSteps, camera: str, row: int) -> bytes:
    data = steps.encoded(camera, row)
    picture = image.decode(data, f"{steps.example_id(row)}: {camera}")
    height, width = picture.shape[:2]
    if width > WIDTH:
        picture = image.resize(picture, (max(1, height * WIDTH // width), WIDTH))
    return _encoded(".webp", picture[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])


def _strip(examples: RobotExamples, inside: range, begin: int, length: int) -> bytes:
    """PNG [D, length] with alpha: the further from the middle of the bounds, the stronger."""
    low, high = (np.array(bound) for bound in examples.bounds())
    half = np.where(high > low, high - low, 1.0) / 2
    moved = np.clip((examples.actions[inside] - (low + high) / 2) / half, -1, 1).T
    pixels = np.zeros((len(low), length, 4), np.uint8)
    columns = [examples.row(i) - begin for i in inside]
    pixels[:, columns, :3] = np.where(moved[..., None] > 0, RISE[::-1], FALL[::-1])
    pixels[:, columns, 3] = np.rint(255 * np.abs(moved))
    return _encoded(".png", pixels, [])


def _encoded(kind: str, pixels: np.ndarray, options: list[int]) -> bytes:
    done, data = cv2.imencode(kind, np.ascontiguousarray(pixels), options)
    if not done:
        raise DataError(f"OpenCV could not encode a picture of {pixels.shape} as {kind}")
    return data.tobytes()
