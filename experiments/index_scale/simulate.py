"""An index of many steps in sparse files: real where it is sampled, holes elsewhere.

A small set with the step features of Language-Table (2-D action, one camera, instruction, three
flags, reward) is written and indexed as usual; its columns are then laid out anew for `steps` steps
in `shards` shards, with the same names, dtypes and trailing shapes, so that nothing but the number
of rows is simulated.
"""

import json
from pathlib import Path

import cv2
import numpy as np

from rt2.data import index, sidecar
from rt2.data.format import dataset_info, features, tfrecord

EPISODE = 16  # steps: Language-Table has 442,226 episodes of 7,045,476 steps
STEP_BYTES = 8_192  # a frame of Language-Table and what lies around it
_CLASS = "tensorflow_datasets.core.features."


def jpeg(seed: int) -> bytes:
    """A small frame that tells its seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    return cv2.imencode(".jpg", cv2.resize(pixels, (16, 16)))[1].tobytes()


def write_small(directory: Path, shards: int) -> None:
    """One episode a shard, with tensorflow-datasets' own serialiser."""
    import tensorflow_datasets as tfds

    f, flag = tfds.features, np.bool_
    step = {
        "observation": {"rgb": f.Image(shape=(16, 16, 3), encoding_format="jpeg")},
        "action": f.Tensor(shape=(2,), dtype=np.float32),
        "instruction": f.Text(),
        "is_first": flag,
        "is_last": flag,
        "is_terminal": flag,
        "reward": np.float32,
    }
    tree = f.FeaturesDict({"steps": f.Dataset(step)})
    directory.mkdir(parents=True, exist_ok=True)
    tree.save_config(directory)
    split = {"name": "train", "shardLengths": ["1"] * shards}
    info = {"name": "scale", "version": "1.0.0", "splits": [split]}
    (directory / "dataset_info.json").write_text(json.dumps(info))
    for number, shard in enumerate(dataset_info.load(directory).shards("train")):
        last = EPISODE - 1
        steps = [
            {
                "observation": {"rgb": jpeg(t)},
                "action": np.array([number, t], np.float32),
                "instruction": f"task {number % 7}",
                "is_first": t == 0,
                "is_last": t == last,
                "is_terminal": t == last,
                "reward": float(t),
            }
            for t in range(EPISODE)
        ]
        (directory / shard.file).write_bytes(framed(tree.serialize_example({"steps": steps})))


def framed(data: bytes) -> bytes:
    """One TFRecord."""
    length = len(data).to_bytes(8, "little")
    crcs = (tfrecord.FOOTER.pack(tfrecord.masked_crc32c(part)) for part in (length, data))
    return length + next(crcs) + data + next(crcs)


def scale(directory: Path, steps: int, sampled: np.ndarray) -> None:
    """Makes the small indexed set at `directory` one of `steps` steps; rows `sampled` are real."""
    small = index.load(directory)
    episodes = steps // EPISODE
    shards = small.info.shards("train")
    lengths = [str(len(part)) for part in np.array_split(np.arange(episodes), len(shards))]
    info = json.loads((directory / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = lengths
    (directory / "dataset_info.json").write_text(json.dumps(info))
    for shard in shards:
        with (directory / shard.file).open("wb") as file:
            file.truncate(STEP_BYTES * EPISODE * int(lengths[0]))
    columns = _sparse_columns(small, steps, episodes)
    _fill(directory, columns, small, sampled, int(lengths[0]))
    meta = small.sidecar.meta
    meta["splits"]["train"] |= {"steps": steps, "episodes": episodes}
    found, info = features.load(directory), dataset_info.load(directory)
    sizes = dataset_info.check_files(directory, info)
    meta["source"] = {"features": found.digest, "dataset_info": info.digest, "shards": sizes}
    (small.sidecar.path / sidecar.META).write_text(json.dumps(meta, indent=1))


def _sparse_columns(small: index.Index, steps: int, episodes: int) -> dict[str, np.ndarray]:
    """The .npy files of the sidecar anew, longer and empty; those of texts stay."""
    split, meta = small.split("train"), small.sidecar.meta
    rows = {split.steps: steps, split.episodes: episodes, split.episodes + 1: episodes + 1}
    columns = {}
    for name, entry in meta["columns"].items():
        key = name.removeprefix("train:")
        if key.startswith("strings."):
            continue
        dtype, (length, *rest) = np.dtype(entry["dtype"]), entry["shape"]
        if key == "episode.record":
            dtype = np.dtype(np.uint16)  # as narrow as an index of so many episodes would be
        path, shape = small.sidecar.path / entry["file"], (rows[length], *rest)
        columns[key] = np.lib.format.open_memmap(path, "w+", dtype, shape)
        entry |= {"shape": list(shape), "dtype": dtype.str}
    return columns


def _fill(directory: Path, columns, small: index.Index, sampled, per_shard: int) -> None:
    import google_crc32c

    files = [shard.file for shard in small.info.shards("train")]
    rgb = "steps/observation/rgb"
    for row in sampled.tolist():
        episode, step = divmod(row, EPISODE)
        shard, record = divmod(episode, per_shard)
        columns["step.episode"][row] = episode
        columns["episode.first"][episode] = episode * EPISODE
        columns["episode.first"][episode + 1] = (episode + 1) * EPISODE
        columns["episode.shard"][episode] = shard
        columns["episode.record"][episode] = record
        columns["steps/action.value"][row] = (episode, step)
        columns["steps/reward.value"][row] = step
        columns["steps/instruction.id"][row] = row % 7
        data = jpeg(row)
        offset = STEP_BYTES * (record * EPISODE + step)
        columns[f"{rgb}.offset"][row] = offset
        columns[f"{rgb}.length"][row] = len(data)
        columns[f"{rgb}.crc"][row] = google_crc32c.value(data)
        with (directory / files[shard]).open("r+b") as file:
            file.seek(offset)
            file.write(data)
    for column in columns.values():
        column.flush()
