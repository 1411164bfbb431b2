"""JPEG as the data sets store it: full colour resolution, for objects are few pixels wide."""

import cv2
import numpy as np

QUALITY = 95
_SETTINGS = (
    *(cv2.IMWRITE_JPEG_QUALITY, QUALITY),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)


def encode(image: np.ndarray) -> bytes:
    """Returns an RGB picture, uint8 [H, W, 3], as JPEG bytes."""
    done, data = cv2.imencode(".jpg", image[..., ::-1], _SETTINGS)
    if not done:
        raise ValueError(
            f"opencv cannot encode an image of shape {image.shape} and type {image.dtype}"
        )
    return data.tobytes()
