"""A model of several cameras: which picture goes where, in a script, a bundle and a server."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from rt2.errors import ConfigError
from rt2.inference import bundle_runtime, observation, worker
from rt2.inference.observation import ObservationError
from rt2.inference.policy import Policy, describe
from rt2.preprocess import Preprocess, PreprocessError

CAMERAS = ("image", "wrist_image")
RNG = np.random.default_rng(0)
FRONT, LATER, WRIST = RNG.integers(0, 256, (3, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def two(preprocess):
    """The preprocessing of a model of two cameras that remembers one frame."""
    return dataclasses.replace(preprocess, cameras=CAMERAS, history=2)


@pytest.fixture(scope="module")
def seeing(policy, two):
    assets = {"step": 7, "eval": {}, "config": {"sources": {}}}
    return Policy(policy.model, policy.params, two, describe(two, assets))


def asked(image):
    return {"image": image, "instruction": "push", "dataset": "arm"}


@pytest.mark.parametrize(
    "image, wanted",
    [
        ({"image": FRONT, "wrist_image": WRIST}, [FRONT, FRONT, WRIST]),
        ({"wrist_image": [WRIST], "image": [FRONT, LATER]}, [FRONT, LATER, WRIST]),
    ],
)
def test_the_first_camera_has_the_past_and_the_others_follow(two, image, wanted):
    stack = two.image_stack(two.frames(image))
    np.testing.assert_array_equal(stack, wanted)
    bundle = SimpleNamespace(
        _assets={"cameras": list(CAMERAS), "history": 2, "image_size": two.image_size}
    )
    np.testing.assert_array_equal(bundle_runtime.Policy._images(bundle, image), wanted)


def test_the_model_sees_every_camera(seeing):
    views = {"image": FRONT, "wrist_image": WRIST}
    known = seeing.infer(asked(views))["log_prob"]
    assert seeing.infer(asked(dict(reversed(views.items()))))["log_prob"] == known
    for camera in CAMERAS:
        assert seeing.infer(asked(views | {camera: LATER}))["log_prob"] != known


@pytest.mark.parametrize(
    "image, told",
    [
        (FRONT, r"cameras \['image'\]; this model reads \['image', 'wrist_image'\]"),
        ({"image": FRONT}, "this model reads"),
        ({"image": FRONT, "wrist": WRIST}, "this model reads"),
        ({"image": [FRONT] * 3, "wrist_image": WRIST}, "3 frames"),
        ({"image": [], "wrist_image": WRIST}, "0 frames"),
        ({"image": FRONT, "wrist_image": [WRIST, WRIST]}, "one frame each"),
        ({}, "cameras"),
    ],
)
def test_what_does_not_fit_is_named(seeing, two, image, told):
    with pytest.raises(PreprocessError, match=told):
        seeing.infer(asked(image))


def test_one_camera_may_have_any_name(preprocess):
    np.testing.assert_array_equal(preprocess.frames({"eye": FRONT}), [FRONT])


def test_cameras_travel_with_the_checkpoint(two, seeing):
    assert Preprocess.from_json(two.to_json()).cameras == CAMERAS
    assert seeing.metadata["cameras"] == list(CAMERAS)
    assert all(set(row["image"]) == set(CAMERAS) for row, *_ in worker.warm_up(seeing.metadata, 1))


@pytest.mark.parametrize("cameras", [(), ("a", "a")])
def test_names_of_cameras_are_distinct(preprocess, cameras):
    with pytest.raises(ConfigError, match="config.cameras"):
        dataclasses.replace(preprocess, cameras=cameras)


LIBERO = {"observation/image": FRONT, "observation/wrist_image": WRIST, "prompt": "push"}
ALOHA = {"images": {"cam_high": FRONT, "cam_low": LATER, "cam_left_wrist": WRIST}, "prompt": "push"}


@pytest.mark.parametrize(
    "request_, cameras",
    [
        (LIBERO, CAMERAS),
        ({"image": {"image": FRONT, "wrist_image": WRIST}, "instruction": "push"}, CAMERAS),
        (ALOHA, ("cam_high", "cam_left_wrist")),
        ({"image": {"a": FRONT, "b": WRIST}, "instruction": "push"}, ("a", "b")),
    ],
)
def test_a_server_takes_openpis_names_and_the_models_own(request_, cameras):
    read = observation.read(request_, cameras)["image"]
    assert tuple(read) == cameras
    np.testing.assert_array_equal(list(read.values()), [FRONT, WRIST])


@pytest.mark.parametrize(
    "request_, told",
    [
        ({"image": FRONT, "instruction": "push"}, "no camera 'wrist_image'.*given: image"),
        ({"instruction": "push"}, "no camera 'image'.*given: none"),
        (LIBERO | {"images": {"wirst": FRONT}}, "images.wirst: unknown.*image, wrist_image"),
        (LIBERO | {"observation/wrist_image": WRIST / 255}, "observation/wrist_image: float64"),
    ],
)
def test_a_server_names_what_it_cannot_read(request_, told):
    with pytest.raises(ObservationError, match=told):
        observation.read(request_, CAMERAS)
