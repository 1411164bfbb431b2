"""A writer of tiny RLDS sets, independent of the reader under test and of TensorFlow."""

import json
import os
import pathlib
import struct
import types

import cv2
import google_crc32c
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SIZE = 16
_CLASS = "tensorflow_datasets.core.features."


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def delimited(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def feature(kind: str, values, packed: bool = True) -> bytes:
    if kind == "bytes":
        return delimited(1, b"".join(delimited(1, value) for value in values))
    if kind == "float":
        parts = [struct.pack("<f", value) for value in values]
        number, single = 2, varint(1 << 3 | 5)
    else:
        parts = [varint(int(value)) for value in values]
        number, single = 3, varint(1 << 3)
    inner = delimited(1, b"".join(parts)) if packed else b"".join(single + p for p in parts)
    return delimited(number, inner)


def example(features: dict, packed: bool = True) -> bytes:
    entries = [
        delimited(1, key.encode()) + delimited(2, feature(kind, values, packed))
        for key, (kind, values) in features.items()
    ]
    return delimited(1, b"".join(delimited(1, entry) for entry in entries))


def frame(data: bytes) -> bytes:
    def masked(part):
        crc = google_crc32c.value(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def jpeg(seed: int, size: int = SIZE) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    return cv2.imencode(".jpg", cv2.resize(pixels, (size, size)))[1].tobytes()


def episode(number: int, steps: int = 4) -> dict:
    """The features of one episode as a record stores them."""
    rng = np.random.default_rng(number)
    flags = np.arange(steps)
    return {
        "steps/observation/rgb": ("bytes", [jpeg(100 * number + t) for t in range(steps)]),
        "steps/observation/state": ("float", list(rng.uniform(0, 1, 2 * steps))),
        "steps/action": ("float", list(rng.uniform(-0.04, 0.04, 2 * steps))),
        "steps/instruction": ("bytes", [f"go to {number % 3}".encode()] * steps),
        "steps/is_first": ("int64", flags == 0),
        "steps/is_last": ("int64", flags == steps - 1),
        "episode_metadata/seed": ("int64", [-number]),
        "episode_metadata/task": ("bytes", [b"reach"]),
    }


def tensor(shape, dtype: str) -> dict:
    holder = {"dimensions": [str(s) for s in shape]} if shape else {}
    tensor = {"shape": holder, "dtype": dtype, "encoding": "none"}
    return {"pythonClassName": f"{_CLASS}tensor_feature.Tensor", "tensor": tensor}


def features_dict(children: dict) -> dict:
    name = f"{_CLASS}features_dict.FeaturesDict"
    return {"pythonClassName": name, "featuresDict": {"features": children}}


def features_json() -> dict:
    text = {"pythonClassName": f"{_CLASS}text_feature.Text", "text": {}}
    shape = {"dimensions": [str(SIZE), str(SIZE), "3"]}
    image = {"shape": shape, "dtype": "uint8", "encodingFormat": "jpeg"}
    rgb = {"pythonClassName": f"{_CLASS}image_feature.Image", "image": image}
    step = {
        "observation": features_dict({"rgb": rgb, "state": tensor((2,), "float32")}),
        "action": tensor((2,), "float32"),
        "instruction": text,
        "is_first": tensor((), "bool"),
        "is_last": tensor((), "bool"),
    }
    steps = {
        "pythonClassName": f"{_CLASS}dataset_feature.Dataset",
        "sequence": {"feature": features_dict(step), "length": "-1"},
    }
    metadata = features_dict({"seed": tensor((), "int64"), "task": text})
    return features_dict({"steps": steps, "episode_metadata": metadata})


class Rlds:
    """A set of two shards of three episodes (train) and one shard of one (val) in `directory`."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self.features = features_json()
        self.shards = {
            "tiny-train.tfrecord-00000-of-00002": [episode(n) for n in range(3)],
            "tiny-train.tfrecord-00001-of-00002": [episode(n) for n in range(3, 6)],
            "tiny-val.tfrecord-00000-of-00001": [episode(6)],
        }

    @property
    def train(self) -> list[dict]:
        """The first three episodes, to be changed before `write`."""
        return self.shards["tiny-train.tfrecord-00000-of-00002"]

    @property
    def first(self) -> pathlib.Path:
        """The first shard's file."""
        return self.directory / "tiny-train.tfrecord-00000-of-00002"

    def write(self, template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", packed=True):
        """Writes everything and returns the directory."""
        self.directory.mkdir(parents=True, exist_ok=True)
        splits = [
            {"name": name, "filepathTemplate": template, "shardLengths": lengths}
            for name, lengths in (("train", ["3", "3"]), ("val", ["1"]))
        ]
        info = {"name": "tiny", "version": "1.0.0", "fileFormat": "tfrecord", "splits": splits}
        (self.directory / "dataset_info.json").write_text(json.dumps(info))
        (self.directory / "features.json").write_text(json.dumps(self.features))
        for name, episodes in self.shards.items():
            records = b"".join(frame(example(e, packed)) for e in episodes)
            (self.directory / name).write_bytes(records)
        return self.directory


@pytest.fixture
def tiny(tmp_path) -> Rlds:
    """An unwritten RLDS set."""
    return Rlds(tmp_path / "tiny" / "1.0.0")


@pytest.fixture(scope="session")
def wire():
    """The hand-written serialiser: `wire.example(features)`, `wire.frame(data)`, `wire.jpeg(n)`."""
    functions = {"example": example, "frame": frame, "jpeg": jpeg, "episode": episode}
    return types.SimpleNamespace(**functions)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Indexes of read-only data sets go to a directory of the test run."""
    root = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(root))
    return root


@pytest.fixture(scope="session")
def bridge() -> pathlib.Path:
    """The 25 real episodes of BridgeData V2, where they lie beside the project."""
    root = pathlib.Path(__file__).parents[2]
    directory = root.parent / "shared" / "data" / "bridge_dataset" / "1.0.0"
    if not directory.is_dir():
        pytest.skip("../shared/data/bridge_dataset is not on this machine")
    return directory


@pytest.fixture(scope="session")
def store():
    """`store(features, {split: examples}, data_dir)` writes a set with TFDS, returns its path."""
    tfds = pytest.importorskip("tensorflow_datasets")
    tfds.disable_progress_bar()

    class Stored(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        url_infos = {}  # nothing is downloaded

        def __init__(self, features, splits, data_dir):
            self.features, self.splits = features, splits
            super().__init__(data_dir=data_dir)

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=self.features)

        def _split_generators(self, dl_manager):
            return {name: enumerate(examples) for name, examples in self.splits.items()}

        def _generate_examples(self):
            raise NotImplementedError

    def write(features, splits, data_dir, num_shards=1):
        builder = Stored(features, splits, data_dir)
        config = tfds.download.DownloadConfig(num_shards=num_shards, try_download_gcs=False)
        builder.download_and_prepare(download_config=config)
        return builder.data_dir

    return write
