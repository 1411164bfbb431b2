"""What clients send, in this project's form and in those of openpi's clients."""

import numpy as np
import pytest

from rt2.inference import observation
from rt2.inference.observation import ObservationError

IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
FIRST = IMAGE.transpose(2, 0, 1)
STATE = np.zeros(8, np.float32)
GOOD = {"image": IMAGE, "instruction": "push"}

FORMS = {
    "ours": GOOD,
    "one camera": {"image": {"front": IMAGE}, "instruction": "push"},
    "history of one": {"image": [IMAGE], "instruction": "push"},
    "libero": {
        "observation/image": IMAGE,
        "observation/wrist_image": IMAGE[::-1],
        "observation/state": STATE,
        "prompt": "push",
    },
    "droid": {
        "observation/exterior_image_1_left": IMAGE,
        "observation/wrist_image_left": IMAGE[::-1],
        "observation/joint_position": STATE,
        "observation/gripper_position": STATE[:1],
        "prompt": "push",
    },
    "aloha": {
        "images": {"cam_left_wrist": 0 * FIRST, "cam_high": FIRST, "cam_low": 0 * FIRST},
        "state": STATE,
        "prompt": "push",
    },
    "nested, channels last": {"images": {"any": IMAGE}, "prompt": "push"},
    "flat, channels first": {"observation/image": FIRST, "prompt": "push"},
}


@pytest.mark.parametrize("request_", FORMS.values(), ids=FORMS)
def test_every_form_means_the_same(request_):
    made = observation.read(request_, ["image"])
    assert set(made) - {"state"} == {"image", "instruction"} and made["instruction"] == "push"
    frame = made["image"][0] if isinstance(made["image"], list) else made["image"]
    np.testing.assert_array_equal(frame, IMAGE)


@pytest.mark.parametrize("name, size", [("libero", 8), ("aloha", 8), ("droid", 9)])
def test_the_state_is_passed_on(name, size):
    state = observation.read(FORMS[name], ["image"])["state"]
    np.testing.assert_array_equal(np.asarray(state), np.zeros(size))
    assert "state" not in observation.read(GOOD, ["image"])


def test_joints_come_before_the_gripper():
    droid = {"observation/joint_position": np.arange(7.0), "observation/gripper_position": 7.0}
    assert observation.read(GOOD | droid, ["image"])["state"] == list(range(8))
    assert "state" not in observation.read(
        {**GOOD, "observation/joint_position": np.arange(7.0)}, ["image"]
    )
    assert observation.read({**GOOD, **droid, "state": [3.0]}, ["image"])["state"] == [3.0]


def test_mode_and_dataset_are_passed_on():
    made = observation.read({**GOOD, "mode": "vqa", "dataset": "arm"}, ["image"])
    assert (made["mode"], made["dataset"]) == ("vqa", "arm")
    assert observation.read({**GOOD, "probabilities": True}, ["image"])["probabilities"] is True
    with pytest.raises(ObservationError, match="probabilities: int, expected true or false"):
        observation.read({**GOOD, "probabilities": 1}, ["image"])


NAN = np.array([0, np.nan], np.float32)
BAD = {
    "not a map": ([1], "observation: list"),
    "unknown key": ({**GOOD, "instructions": "x"}, r"instructions: unknown.*'instruction'"),
    "no image": ({"prompt": "x"}, "image: missing"),
    "no text": ({"image": IMAGE}, "instruction: missing"),
    "two images": ({**GOOD, "observation/image": IMAGE}, "image and observation/image"),
    "two texts": ({**GOOD, "prompt": "x"}, "instruction and prompt"),
    "float image": ({**GOOD, "image": IMAGE / 255}, "image: float64"),
    "NaN image": ({**GOOD, "image": np.full((4, 5, 3), np.nan)}, "image: float64"),
    "grey": ({**GOOD, "image": IMAGE[..., 0]}, "image: uint8"),
    "alpha": ({**GOOD, "image": np.zeros((4, 5, 4), np.uint8)}, "image: uint8"),
    "ours, channels first": ({**GOOD, "image": FIRST}, "image: uint8"),
    "list of numbers": ({**GOOD, "image": [[0, 1]]}, "image.0: list"),
    "no frames": ({**GOOD, "image": []}, "image: no frames"),
    "image is text": ({**GOOD, "image": "/etc/passwd"}, "image: str"),
    "too large": ({**GOOD, "image": np.zeros((2000, 2000, 3), np.uint8)}, "image: 4000000 pixels"),
    "two cameras": ({**GOOD, "image": {"a": IMAGE, "b": IMAGE}}, "image.a: unknown"),
    "aloha without main": (
        {"images": {"cam_low": IMAGE, "cam_left_wrist": IMAGE}, "prompt": "x"},
        "send cam_high",
    ),
    "no cameras": ({"images": {}, "prompt": "x"}, "images: 0 cameras"),
    "NaN state": ({**GOOD, "state": NAN}, "state: NaN"),
    "infinite state in a list": ({**GOOD, "state": [0.0, float("inf")]}, "state.1: NaN or inf"),
    "two states": ({**GOOD, "state": STATE, "observation/state": STATE}, "give one of them alone"),
    "infinite joint": ({**GOOD, "observation/joint_position": NAN}, "joint_position: NaN"),
    "infinite scalar": ({**GOOD, "observation/state": np.float64(np.inf)}, "observation/state"),
    "text is bytes": ({"image": IMAGE, "prompt": 5}, "prompt: int"),
    "empty text": ({"image": IMAGE, "prompt": " \t"}, "prompt: empty"),
    "1 MB": ({"image": IMAGE, "prompt": "x" * 2**20}, "at most 512"),
    "marks": ({"image": IMAGE, "prompt": "a" + "\u0301" * 10_000}, "at most 512"),
    "NUL": ({"image": IMAGE, "prompt": "push\x00"}, "U\\+0000"),
    "escape": ({"image": IMAGE, "prompt": "push\x1b[2J"}, "U\\+001B"),
    "bidi": ({"image": IMAGE, "prompt": "push \u202ehsup"}, "U\\+202E"),
    "surrogate": ({"image": IMAGE, "prompt": "push \ud800"}, "U\\+D800"),
    "mode is a number": ({**GOOD, "mode": 1}, "mode: int"),
}


@pytest.mark.parametrize("request_, reason", BAD.values(), ids=BAD)
def test_bad_observation_is_refused_by_name(request_, reason):
    with pytest.raises(ObservationError, match=reason):
        observation.read(request_, ["image"])


def test_the_key_that_is_refused_is_shown_short_and_escaped():
    with pytest.raises(ObservationError) as error:
        observation.read({**GOOD, "x\n" * 5000: 1}, ["image"])
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


def test_known_keys_are_listed_once():
    assert len(set(observation.KNOWN_KEYS)) == len(observation.KNOWN_KEYS)
