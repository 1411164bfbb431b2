"""Generated sets with the features of public ones, written and read back by TFDS."""

import types
import zlib

import numpy as np
import pytest

from rt2.data import specs
from rt2.data.robot import RobotExamples

LENGTHS = (5, 6, 4)  # steps of the three episodes of every generated set

# What changes a gripper: nothing, later ones, and one at once; some lie just below the threshold.
CHANGES = ((0, 0.05, -0.05, 0, 0.1), (0, 0, 1, 0.1, -0.11, 0), (-0.5, 0, 0.2, -0.1))


@pytest.fixture(scope="session")
def tfds():
    return pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="session")
def of(tfds):
    """Short names for features, as TFDS's catalog pages list them."""
    f = tfds.features

    def tensor(*shape, dtype=np.float32, encoding="none"):
        return f.Tensor(shape=shape, dtype=dtype, encoding=encoding)

    def image(height, width, channels=3, dtype=np.uint8, encoding=None):
        return f.Image(shape=(height, width, channels), dtype=dtype, encoding_format=encoding)

    text = f.Tensor(shape=(), dtype=np.str_)
    flags = dict.fromkeys(("is_first", "is_last", "is_terminal"), np.bool_)
    return types.SimpleNamespace(
        tensor=tensor, image=image, text=text, long_text=f.Text(), flags=flags, scalar=f.Scalar
    )


@pytest.fixture(scope="session")
def generate(tfds, store, tmp_path_factory):
    """`generate(step, metadata={}, **fill)` writes a set and returns its directory.

    `step` and `metadata` are features. The values are random, but where `fill` has the last part
    of a feature's name (with _ for /): then they are `fill[name](episode, t)`.
    """

    def write(step, metadata=None, **fill):
        features = tfds.features.FeaturesDict(
            {"steps": tfds.features.Dataset(step), **(metadata or {})}
        )
        rng = np.random.default_rng(0)

        def value(feature, name, episode, t):
            key = name.replace("/", "_")
            if key in fill:
                return fill[key](episode, t)
            if name in ("is_first", "is_last", "is_terminal"):
                return t == (0 if name == "is_first" else LENGTHS[episode] - 1)
            return _random(tfds, feature, name, t, rng)

        def tree(feature, name, episode, t):
            if isinstance(feature, tfds.features.FeaturesDict):
                return {key: tree(child, key, episode, t) for key, child in feature.items()}
            return value(feature, name, episode, t)

        episodes = []
        for number, length in enumerate(LENGTHS):
            steps = features["steps"].feature
            found = {"steps": [tree(steps, "", number, t) for t in range(length)]}
            for key in metadata or {}:
                found[key] = tree(features[key], key, number, 0)
            episodes.append(found)
        return store(features, {"train": episodes}, tmp_path_factory.mktemp("set"))

    return write


def _random(tfds, feature, name, t, rng):
    if isinstance(feature, tfds.features.Image):
        colour = (zlib.crc32(name.encode()) + 40 * t) % 256  # tells cameras and steps apart
        return np.full(feature.shape, colour, feature.np_dtype)
    dtype = np.dtype(feature.np_dtype)
    if dtype.kind in "OU":
        return f"{name} {rng.integers(3)}"
    if dtype.kind == "b":
        return bool(rng.integers(2))
    if dtype.kind == "i":
        return rng.integers(0, 3, feature.shape).astype(dtype)
    return rng.normal(0, 0.4, feature.shape).astype(dtype)


@pytest.fixture(scope="session")
def read(tfds):
    """`read(directory)`: (metadata, steps) of every episode as TFDS gives them."""

    def episodes(directory):
        config = tfds.ReadConfig(interleave_cycle_length=1)
        dataset = tfds.builder_from_directory(directory).as_dataset(
            "train", read_config=config, shuffle_files=False
        )
        for episode in dataset:
            steps = list(episode.pop("steps").as_numpy_iterator())
            yield tfds.as_numpy(episode), steps

    return episodes


@pytest.fixture(scope="session")
def compare(read):
    """`compare(directory, name, oracle, camera)`: the row `name` reads what the oracle says.

    camera: the observation that Octo and OpenVLA call primary. oracle(metadata, steps) gives (t, action, terminate, instruction, state) of every step of an
    episode that is to be trained on. Returns the examples.
    """

    def check(directory, name, oracle, camera):
        spec = specs.get(name)
        assert spec.camera == f"observation/{camera}"
        examples = RobotExamples(directory, "train", spec, cameras=spec.cameras)
        wanted = [
            (steps, number, *row)
            for number, (metadata, steps) in enumerate(read(directory))
            for row in oracle(metadata, steps)
        ]
        assert len(examples) == len(wanted) > 0
        for i, (steps, number, t, action, terminate, instruction, state) in enumerate(wanted):
            ours = examples[i]
            assert (ours.episode, ours.step) == (number, t)
            assert ours.action.dtype == np.float32
            np.testing.assert_allclose(ours.action, action, atol=1e-6, rtol=1e-6)
            assert (ours.terminate, ours.instruction) == (terminate, instruction)
            if state is None:
                assert ours.state is None
            else:
                np.testing.assert_allclose(ours.state, state, atol=1e-6, rtol=1e-6)
            seen = {spec.camera: ours.images[-1], **ours.views}
            assert seen.keys() == {spec.camera, *spec.cameras}
            for camera, image in seen.items():
                theirs = steps[t]["observation"][camera.removeprefix("observation/")]
                assert np.abs(image.astype(int) - theirs).max() <= 3, camera  # JPEG
        np.testing.assert_allclose(
            examples.actions, [row[3] for row in wanted], atol=1e-6, rtol=1e-6
        )
        low, high = examples.bounds()
        assert len(low) == len(high) == spec.action_spec.dim and (np.array(low) < high).all()
        return examples

    return check


@pytest.fixture(scope="session")
def by_hand():
    """Slow, obvious arithmetic of the published transforms, on Python floats."""

    def absolute(changes):
        """1 open, 0 closed, of relative changes: above 0.1 closes, below -0.1 opens."""
        signs = [1 if c < np.float32(-0.1) else -1 if c > np.float32(0.1) else 0 for c in changes]
        moves = [sign for sign in signs if sign]
        state = -moves[0] if moves else 1
        found = []
        for sign in signs:
            state = sign or state
            found.append((state + 1) / 2)
        return found

    def binary(values):
        """From the end: above 0.95 is 1, below 0.05 is 0, between them as after."""
        carry, found = values[-1], []
        for value in reversed(values):
            if value > 0.95:
                carry = 1.0
            elif value < 0.05:
                carry = 0.0
            found.append(carry)
        return found[::-1]

    return types.SimpleNamespace(absolute=absolute, binary=binary, CHANGES=CHANGES)
