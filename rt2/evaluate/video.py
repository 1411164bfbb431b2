"""Episodes as animated WebP pictures that a page can carry inside itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

FRAME_MS = 120
LAST_FRAME_MS = 1200  # the outcome stays in view before the loop starts again
QUALITY = 80


@dataclass(frozen=True)
class Video:
    """One episode to look at: frames uint8 [H, W, 3] and what happened in them."""

    frames: tuple[np.ndarray, ...]
    task: str
    split: str
    instruction: str
    success: bool
    steps: int


def webp(frames: Sequence[np.ndarray]) -> bytes:
    """An endless animated WebP of `frames`, RGB uint8 [H, W, 3], at least one, all of one shape.

    Raises ValueError for no frame or frames of different shapes.
    """
    shapes = {frame.shape for frame in frames}
    if len(shapes) != 1:
        raise ValueError(f"a video needs frames of one shape, got {sorted(shapes)}")
    animation = cv2.Animation()
    animation.frames = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames]  # BGR
    animation.durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    animation.loop_count = 0
    done, encoded = cv2.imencodeanimation(".webp", animation, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    if not done:
        raise ValueError("OpenCV could not encode the animation as WebP")
    return encoded.tobytes()
