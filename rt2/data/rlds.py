"""Steps of an RLDS data set (or examples of a flat TFDS data set) by number."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from rt2.data import image, index
from rt2.data.errors import DataError, nearest
from rt2.data.features import Leaf
from rt2.data.shard_files import ShardFiles


class RldsSteps:
    """`steps[i]` is step i of a split, in the order in which the shards hold the episodes.

    The index is built on first use. Immutable, picklable, safe under threads and forks.
    """

    def __init__(self, directory: Path | str, split: str, decode_images: bool = True):
        self.index = index.load(directory)
        self.split = self.index.split(split)
        self.decode_images = decode_images
        self.files = ShardFiles(self.index.directory, self.split.shards)
        self._leaves = {leaf.name: leaf for leaf in self.index.features.at("step")}
        self._episodic = self.index.features.episodic

    def __len__(self) -> int:
        return self.split.steps

    def __getitem__(self, i: int) -> dict[str, Any]:
        """Step `i` as TFDS decodes it, nested, plus "episode", "step" and "example_id".

        Numbers have the dtype and shape of features.json, texts are bytes, images uint8 [H, W, C]
        (or their encoded bytes). Raises DataError where the bytes have changed, IndexError.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"step {i} of {len(self)}")
        nested: dict[str, Any] = {}
        for leaf in self.index.features.at("step"):
            _place(nested, leaf.path, self.value(leaf.name, i))
        if not self._episodic:
            for leaf in self.index.features.at("ragged"):
                _place(nested, leaf.path, self.ragged(leaf, i))
        episode, step = self.position(i)
        return nested | {"episode": episode, "step": step, "example_id": self.example_id(i)}

    def position(self, i: int) -> tuple[int, int]:
        """(episode, step within the episode) of step `i`."""
        episode = int(self.split.column("step.episode")[i])
        return episode, int(i - self.split.column("episode.first")[episode])

    def example_id(self, i: int) -> str:
        """`<data set>/<version>/<split>/<episode>/<step>`."""
        episode, step = self.position(i)
        info = self.index.info
        return f"{info.name}/{info.version}/{self.split.split}/{episode}/{step}"

    def leaf(self, name: str) -> Leaf:
        """The step feature `name`. Raises DataError with the nearest valid name."""
        if name not in self._leaves:
            raise DataError(
                f"{self.index.directory}: no step feature {name!r}: {nearest(name, self._leaves)}"
            )
        return self._leaves[name]

    def value(self, name: str, i: int) -> Any:
        """One feature of step `i`."""
        leaf = self.leaf(name)
        if leaf.kind == "number":
            return _number(self.split.column(f"{leaf.key}.value")[i])
        if leaf.kind == "text":
            return self.split.strings.encoded(self.split.column(f"{leaf.key}.id")[i])
        data = self.encoded(name, i)
        if leaf.kind == "tensor":
            return _tensor(data, leaf, self.example_id(i))
        if not self.decode_images:
            return data
        where = f"{self.example_id(i)}: {name}"
        return image.decode_declared(data, leaf.shape, leaf.dtype, where)

    def encoded(self, name: str, i: int) -> bytes:
        """The bytes of an image or encoded tensor of step `i`, checked against their CRC32C."""
        key = self.leaf(name).key
        episode, _ = self.position(i)
        columns = (self.split.column(f"{key}.{part}")[i] for part in ("offset", "length", "crc"))
        offset, length, crc = map(int, columns)
        shard = int(self.split.column("episode.shard")[episode])
        return self.files.read(shard, offset, length, crc, f"{self.example_id(i)}: {name}")

    def episode(self, number: int) -> dict[str, Any]:
        """The metadata of an episode, nested, as TFDS decodes them."""
        nested: dict[str, Any] = {}
        for leaf in self.index.features.at("episode"):
            if leaf.kind == "number":
                value = _number(self.split.column(f"{leaf.key}.value")[number])
            elif leaf.kind == "text":
                value = self.split.strings.encoded(self.split.column(f"{leaf.key}.id")[number])
            else:
                value = self._episode_bytes(leaf, number)
            _place(nested, leaf.path, value)
        for leaf in self.index.features.at("ragged") if self._episodic else ():
            _place(nested, leaf.path, self.ragged(leaf, number))
        return nested

    def ragged(self, leaf: Leaf, record: int) -> Any:
        """A sequence of one record: an array, or a list of bytes."""
        first, last = self.split.column(f"{leaf.key}.first")[record : record + 2]
        if leaf.kind == "number":
            return np.array(self.split.column(f"{leaf.key}.value")[first:last])
        if leaf.kind == "text":
            ids = self.split.column(f"{leaf.key}.id")[first:last]
            return [self.split.strings.encoded(i) for i in ids]
        return [self._bytes_at(leaf, record, i) for i in range(first, last)]

    def _episode_bytes(self, leaf: Leaf, episode: int) -> Any:
        data = self._bytes_at(leaf, episode, episode)
        where = f"{self.index.info.name}/{self.split.split}/{episode}"
        if leaf.kind == "tensor":
            return _tensor(data, leaf, where)
        if not self.decode_images:
            return data
        return image.decode_declared(data, leaf.shape, leaf.dtype, where)

    def _bytes_at(self, leaf: Leaf, record: int, row: int) -> bytes:
        key, shard = leaf.key, int(self.split.column("episode.shard")[record])
        columns = (self.split.column(f"{key}.{part}")[row] for part in ("offset", "length", "crc"))
        where = f"{self.index.info.name}/{self.split.split}/{record}: {leaf.name}"
        return self.files.read(shard, *map(int, columns), where)


def _number(value: Any) -> Any:
    return np.array(value) if np.ndim(value) else value  # a copy: no view of the mapped column


def _tensor(data: bytes, leaf: Leaf, where: str) -> np.ndarray:
    raw = zlib.decompress(data) if leaf.encoding == "zlib" else data
    values = np.frombuffer(raw, np.dtype(leaf.dtype).newbyteorder("<"))
    if values.size != leaf.size:
        raise DataError(f"{where}: {values.size} numbers where features.json says {leaf.shape}")
    return values.reshape(leaf.shape)


def _place(nested: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        nested = nested.setdefault(key, {})
    nested[path[-1]] = value
