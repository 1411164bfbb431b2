"""From what a client sends to what a policy reads.

Clients write either this project's keys (`image`, `instruction`, `state`, `mode`, `dataset`) or
openpi's: flat (`observation/image`, `observation/state`, `prompt`) or nested (`images: {cam_high:
...}`). openpi's clients always send wrist cameras and the robot's state. A model reads the cameras
and the state that it was trained with (the server's metadata says which): what it does not read of
those keys, and of those alone, is accepted and not used. Any other key is an error.

A model of one camera takes the picture by whatever name. One of several takes each by its own name,
in `image` or `images` or, without "observation/", as openpi's flat key.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rt2.inference.wire import join
from rt2.inference.wording import WordingError, plain

MAX_PIXELS = 2_100_000  # of one frame; 1920 x 1080 fits
MAX_INSTRUCTION = 512  # bytes of UTF-8

IMAGE_KEYS = ("image", "observation/image", "observation/exterior_image_1_left", "images")
TEXT_KEYS = ("instruction", "prompt")
PASSED_KEYS = ("mode", "dataset")
FLAG_KEYS = ("probabilities",)
PREFIX = "observation/"
STATE_KEYS = ("state", "observation/state")
DROID_STATE = ("observation/joint_position", "observation/gripper_position")  # one after the other
WRIST_KEYS = ("observation/wrist_image", "observation/wrist_image_left")
MAIN_CAMERA = "cam_high"  # of ALOHA's four
OTHER_CAMERAS = ("cam_low", "cam_left_wrist", "cam_right_wrist")
KNOWN_KEYS = (
    IMAGE_KEYS + TEXT_KEYS + STATE_KEYS + DROID_STATE + PASSED_KEYS + FLAG_KEYS + WRIST_KEYS
)


class ObservationError(ValueError):
    """A request that is no observation; the message names the field."""


def read(request: Any, cameras: Sequence[str]) -> dict[str, Any]:
    """The observation of a decoded request: `image`, `instruction`; if given, state and the rest.

    `cameras`: those of the model; `image` is {camera: image} where there are several.

    Raises ObservationError on an unknown key, a missing or doubled one, an image that is not uint8
    RGB of at most `MAX_PIXELS`, an instruction that is empty, longer than `MAX_INSTRUCTION` or
    holds control characters (`wording.plain`), and on numbers that are not finite. Whether a state
    fits the model is the policy's to say (`Preprocess.state`).
    """
    if not isinstance(request, Mapping):
        raise ObservationError(f"observation: {type(request).__name__}, expected a map")
    for key in request:
        if key not in KNOWN_KEYS:
            raise ObservationError(_unknown("", key, KNOWN_KEYS))
    for key in STATE_KEYS + DROID_STATE + WRIST_KEYS:
        _check_finite(key, request.get(key))
    text_key = _one_of(request, TEXT_KEYS)
    image = _only_image(request) if len(cameras) == 1 else _images(request, cameras)
    try:
        text = plain(text_key, request[text_key], MAX_INSTRUCTION)
        passed = {key: plain(key, request[key], 64) for key in PASSED_KEYS if key in request}
    except WordingError as error:
        raise ObservationError(str(error)) from None
    passed |= {key: _flag(key, request[key]) for key in FLAG_KEYS if key in request}
    return {"image": image, "instruction": text} | _state(request) | passed


def _state(request: Mapping[str, Any]) -> dict[str, Any]:
    """{"state": numbers} as the client gave them, {} where it gave none."""
    if any(key in request for key in STATE_KEYS):
        return {"state": request[_one_of(request, STATE_KEYS)]}
    if all(key in request for key in DROID_STATE):
        return {"state": [x for key in DROID_STATE for x in _listed(request[key])]}
    return {}


def _listed(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray | np.generic):
        return list(np.atleast_1d(value))
    return value if isinstance(value, list) else [value]


def _unknown(where: str, key: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(key[:64], known, 1)
    hint = f". Did you mean {near[0]!r}?" if near else ""
    return f"{join(where, key)}: unknown; known: {', '.join(known)}{hint}"


def _one_of(request: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    given = [key for key in keys if key in request]
    if not given:
        raise ObservationError(f"{keys[0]}: missing; give one of {', '.join(keys)}")
    if len(given) > 1:
        raise ObservationError(f"{given[0]} and {given[1]}: give one of them alone")
    return given[0]


def _only_image(request: Mapping[str, Any]) -> Any:
    """What a model of one camera reads."""
    key = _one_of(request, IMAGE_KEYS)
    value = request[key]
    if isinstance(value, Mapping):
        camera = _camera(key, value)
        return _image(join(key, camera), value[camera])
    return _image(key, value)


def _images(request: Mapping[str, Any], cameras: Sequence[str]) -> dict[str, Any]:
    """What a model of several cameras reads, by their names."""
    given: dict[str, tuple[str, Any]] = {}  # camera -> where it stands in the request, and there
    for key in (*IMAGE_KEYS, *WRIST_KEYS):
        if key in request and isinstance(request[key], Mapping):
            given |= {name: (join(key, name), value) for name, value in request[key].items()}
        elif key in request:
            given[key.removeprefix(PREFIX)] = key, request[key]
    if missing := [camera for camera in cameras if camera not in given]:
        raise ObservationError(
            f"image: no camera {missing[0]!r}; this model reads {', '.join(cameras)}, given: "
            f"{', '.join(sorted(name[:64] for name in given)) or 'none'}"
        )
    known = tuple(key.removeprefix(PREFIX) for key in IMAGE_KEYS + WRIST_KEYS)
    known += (*cameras, MAIN_CAMERA, *OTHER_CAMERAS)
    for name, (key, _) in given.items():
        if name not in known:
            raise ObservationError(_unknown("", key, tuple(cameras)))
    return {camera: _image(*given[camera]) for camera in cameras}


def _image(key: str, value: Any) -> Any:
    """One frame, or the frames of a camera oldest first, each [H, W, 3]."""
    if isinstance(value, list):
        if not value:
            raise ObservationError(f"{key}: no frames")
        return [_frame(join(key, str(i)), frame, key != "image") for i, frame in enumerate(value)]
    return _frame(key, value, key != "image")


def _camera(key: str, cameras: Mapping[str, Any]) -> str:
    """The camera to use: the only one, or ALOHA's main one among its four."""
    if len(cameras) == 1:
        return next(iter(cameras))
    known = (MAIN_CAMERA, *OTHER_CAMERAS)
    for name in cameras:
        if name not in known:
            raise ObservationError(
                f"{_unknown(key, name, known)} This model reads one camera: send that alone."
            )
    if MAIN_CAMERA not in cameras:
        raise ObservationError(f"{key}: {len(cameras)} cameras; send {MAIN_CAMERA} or one alone")
    return MAIN_CAMERA


def _frame(key: str, frame: Any, channels_first: bool) -> np.ndarray:
    """[H, W, 3]; openpi's clients for ALOHA send [3, H, W]."""
    if not isinstance(frame, np.ndarray):
        raise ObservationError(f"{key}: {type(frame).__name__}, expected an array uint8 [H, W, 3]")
    if channels_first and frame.ndim == 3 and frame.shape[0] == 3 and frame.shape[2] != 3:
        frame = np.ascontiguousarray(frame.transpose(1, 2, 0))
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        shape = list(frame.shape)
        raise ObservationError(f"{key}: {frame.dtype} {shape}, expected uint8 [H, W, 3]")
    pixels = frame.shape[0] * frame.shape[1]
    if pixels > MAX_PIXELS:
        raise ObservationError(
            f"{key}: {pixels} pixels, at most {MAX_PIXELS} are taken; scale the image down first"
        )
    return frame


def _flag(key: str, value: Any) -> bool:
    if type(value) is not bool:
        raise ObservationError(f"{key}: {type(value).__name__}, expected true or false")
    return value


def _check_finite(key: str, value: Any) -> None:
    """Numbers that the model does not read still tell of a broken robot when not finite."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            _check_finite(join(key, str(i)), item)
    elif isinstance(value, float | np.ndarray | np.generic) and not np.isfinite(value).all():
        raise ObservationError(f"{key}: NaN or infinity")
