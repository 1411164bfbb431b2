"""RldsSteps against TensorFlow Datasets, example by example.

JPEG pixels: equal to `tf.io.decode_jpeg(dct_method="INTEGER_ACCURATE")`; TFDS's own default takes
the fast, inexact IDCT, which differs by up to about 20 levels in single pixels. Everything else
(encoded bytes, PNG pixels, numbers, texts, dtypes) is exactly what TFDS gives.
"""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from rt2.data.errors import DataError
from rt2.data.rlds import RldsSteps


@pytest.fixture(scope="module")
def tfds():
    return pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def generated(tfds, store, tmp_path_factory):
    """A set with every kind of feature that is read, three shards in train."""
    f = tfds.features
    step = {
        "observation": {
            "rgb": f.Image(shape=(24, 32, 3), encoding_format="jpeg"),
            "wrist": f.Image(shape=(10, 12, 3), encoding_format="png"),
            "mask": f.Image(shape=(6, 7, 1), encoding_format="png"),
            "depth": f.Image(shape=(6, 7, 1), dtype=np.uint16, encoding_format="png"),
            "free": f.Image(),
            "embedding": f.Tensor(shape=(100,), dtype=np.float32),
            "packed": f.Tensor(shape=(3, 2), dtype=np.float64, encoding="zlib"),
            "raw": f.Tensor(shape=(4,), dtype=np.int32, encoding="bytes"),
            "matrix": f.Tensor(shape=(2, 3), dtype=np.float64),
            "small": f.Tensor(shape=(3,), dtype=np.uint8),
        },
        "action": f.Tensor(shape=(2,), dtype=np.float32),
        "counter": np.int64,
        "instruction": f.Text(),
        "is_first": np.bool_,
        "is_last": np.bool_,
    }
    metadata = {"seed": np.int64, "name": f.Text(), "tags": f.Sequence(f.Text())}
    features = f.FeaturesDict({"steps": f.Dataset(step), "episode_metadata": metadata})
    splits = {"train": _episodes(7, 0), "val": _episodes(3, 50)}
    return store(features, splits, tmp_path_factory.mktemp("generated"), num_shards=3)


def _episodes(count: int, seed: int) -> list[dict]:
    rng = np.random.default_rng(seed)

    def image(*shape, dtype=np.uint8):
        small = rng.integers(0, np.iinfo(dtype).max, (3, 3, shape[-1])).astype(np.float32)
        return cv2.resize(small, shape[1::-1]).reshape(shape).astype(dtype)

    def step(t, steps):
        return {
            "observation": {
                "rgb": image(24, 32, 3),
                "wrist": image(10, 12, 3),
                "mask": image(6, 7, 1),
                "depth": image(6, 7, 1, dtype=np.uint16),
                "free": image(5 + t, 9, 3),
                "embedding": rng.normal(size=100).astype(np.float32),
                "packed": rng.normal(size=(3, 2)),
                "raw": rng.integers(-9, 9, 4).astype(np.int32),
                "matrix": rng.normal(size=(2, 3)),
                "small": rng.integers(0, 255, 3).astype(np.uint8),
            },
            "action": rng.normal(size=2).astype(np.float32),
            "counter": -(2**40) + t,
            "instruction": f"größe {t % 2}",
            "is_first": t == 0,
            "is_last": t == steps - 1,
        }

    return [
        {
            "steps": [step(t, 2 + n) for t in range(2 + n)],
            "episode_metadata": {"seed": -n, "name": f"e{n}", "tags": [f"t{i}" for i in range(n)]},
        }
        for n in range(count)
    ]


def _oracle(tfds, directory, split, decoders=None):
    """(episode, its steps) of every episode as TFDS reads them, in the order of the shards."""
    config = tfds.ReadConfig(interleave_cycle_length=1)
    dataset = tfds.builder_from_directory(directory).as_dataset(
        split, decoders=decoders, read_config=config, shuffle_files=False
    )
    for episode in dataset:
        steps = list(episode.pop("steps").as_numpy_iterator())
        yield tfds.as_numpy(episode), steps


def _assert_equal(ours, theirs, path=""):
    if isinstance(theirs, dict):
        assert isinstance(ours, dict) and theirs.keys() <= ours.keys(), path
        for key in theirs:
            _assert_equal(ours[key], theirs[key], f"{path}/{key}")
    elif isinstance(theirs, bytes):
        assert ours == theirs, path
    elif np.asarray(theirs).dtype == object:
        assert list(ours) == list(theirs), path
    else:
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, path
        np.testing.assert_array_equal(ours, theirs, err_msg=path)


def _compare(tfds, directory, split, jpegs, exact: bool):
    import tensorflow as tf

    accurate = tfds.decode.make_decoder()(
        lambda data, feature: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    )
    decoder = accurate() if exact else tfds.decode.SkipDecoding()
    decoders = {"steps": {"observation": dict.fromkeys(jpegs, decoder)}}
    ours = RldsSteps(directory, split, decode_images=exact)
    i = -1
    for number, (metadata, steps) in enumerate(_oracle(tfds, directory, split, decoders)):
        _assert_equal(ours.episode(number), metadata)
        for t, theirs in enumerate(steps):
            i += 1
            assert ours.position(i) == (number, t)
            found = ours[i] if exact else {
                "observation": {key: ours[i]["observation"][key] for key in jpegs}
            }  # fmt: skip
            wanted = theirs if exact else {
                "observation": {key: theirs["observation"][key] for key in jpegs}
            }  # fmt: skip
            _assert_equal(found, wanted)
    assert i + 1 == len(ours)


@pytest.mark.parametrize("exact", [True, False], ids=["decoded", "encoded"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_generated_equals_tfds(tfds, generated, split, exact):
    _compare(tfds, generated, split, ["rgb"], exact)


@pytest.mark.parametrize("exact", [True, False], ids=["decoded", "encoded"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_bridge_equals_tfds(tfds, bridge, split, exact):
    _compare(tfds, bridge, split, [f"image_{camera}" for camera in range(4)], exact)


def test_tfds_default_jpeg_decoding_is_close(tfds, bridge):
    ours = RldsSteps(bridge, "train")
    _, steps = next(_oracle(tfds, bridge, "train"))
    for i, step in enumerate(steps):
        for name, theirs in step["observation"].items():
            if name.startswith("image"):
                difference = np.abs(ours[i]["observation"][name].astype(int) - theirs)
                assert difference.max() <= 24 and difference.mean() < 3


def test_example_ids_are_unique(tiny):
    steps = RldsSteps(tiny.write(), "train")
    ids = [steps[i]["example_id"] for i in range(len(steps))]
    assert len(set(ids)) == 24 and ids[5] == "tiny/1.0.0/train/1/1"
    with pytest.raises(IndexError):
        steps[24]
    with pytest.raises(IndexError):
        steps[-1]


def test_an_unknown_feature_names_the_nearest(tiny):
    steps = RldsSteps(tiny.write(), "train")
    with pytest.raises(DataError, match="did you mean 'observation/rgb'"):
        steps.value("observation/rbg", 0)


def test_pickled_copies_and_threads_read_the_same(tiny):
    steps = RldsSteps(tiny.write(), "train", decode_images=False)
    wanted = [steps[i]["observation"]["rgb"] for i in range(24)]
    copy = pickle.loads(pickle.dumps(steps))
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda i: copy[i % 24], range(480)))
    assert [row["observation"]["rgb"] for row in rows] == wanted * 20


def test_a_forked_child_opens_its_own_files(tiny):
    steps = RldsSteps(tiny.write(), "train", decode_images=False)
    wanted = steps[3]["observation"]["rgb"]
    child = os.fork()
    if child == 0:
        same = steps[3]["observation"]["rgb"] == wanted
        own = steps.files._pid == os.getpid()
        os._exit(0 if same and own else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
