"""Steps of an RLDS data set (or examples of a flat TFDS data set) by number."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rt2.data import index
from rt2.data.errors import DataError, nearest
from rt2.data.format.leaf import Leaf
from rt2.data.format.values import Decoder, nested_rows, stacked
from rt2.data.shard_files import Piece, ShardFiles
from rt2.data.storage import Url


class RldsSteps:
    """`steps[i]` is step i of a split, in the order in which the shards hold the episodes.

    `directory` may be a URL (`gs://`, `s3://`, `http(s)://`). The index is built on first use;
    `quarantine` is the share of damaged records that it may leave out (`index.build`).
    Immutable, picklable, safe under threads and forks.
    """

    def __init__(
        self,
        directory: Path | Url | str,
        split: str,
        decode_images: bool = True,
        quarantine: float = 0.0,
    ):
        self.index = index.load(directory, quarantine=quarantine)
        self.split = self.index.split(split)
        self.decode_images = decode_images
        self.files = ShardFiles(self.index.directory, self.split.shards)
        self._leaves = {leaf.name: leaf for leaf in self.index.features.at("step")}
        self._episodic = self.index.features.episodic
        self._decode = Decoder(self.split, decode_images)

    def __len__(self) -> int:
        return self.split.steps

    def __getitem__(self, i: int) -> dict[str, Any]:
        """Step `i` as TFDS decodes it, nested, plus "episode", "step" and "example_id".

        Numbers have the dtype and shape of features.json, texts are bytes, images uint8 [H, W, C]
        (or their encoded bytes), a sequence is an array, or a list where its values differ in
        shape or are texts; what a record lacks of an optional feature is None. Raises DataError
        where the bytes have changed, IndexError.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"step {i} of {len(self)}")
        episode, step = self.position(i)
        rows = [(leaf, i) for leaf in self.index.features.at("step")]
        rows += [(leaf, i) for leaf in self.index.features.at("ragged_step")]
        if not self._episodic:
            rows += [(leaf, i) for leaf in self.index.features.at("ragged")]
        nested = self._nest(rows, episode, self.example_id(i))
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
        if leaf.kind not in ("image", "tensor"):
            return self._decode.value(leaf, i)
        where = self.example_id(i)
        if not self._decode.present(leaf, i):
            return None
        return self._decode.bytes(leaf, i, self.encoded(name, i), f"{where}: {name}")

    def encoded(self, name: str, i: int) -> bytes:
        """The bytes of an image or encoded tensor of step `i`, checked against their CRC32C."""
        return self.files.read(*self._piece(self.leaf(name), i, self.position(i)[0]))

    def encoded_many(self, wanted: Sequence[tuple[str, int]]) -> list[bytes]:
        """`encoded` of every (feature, step); a remote set is asked for all of them together."""
        pieces = [self._piece(self.leaf(n), i, self.position(i)[0]) for n, i in wanted]
        return self.files.read_many(pieces)

    def episode(self, number: int) -> dict[str, Any]:
        """The metadata of an episode, nested, as TFDS decodes them."""
        rows = [(leaf, number) for leaf in self.index.features.at("episode")]
        if self._episodic:
            rows += [(leaf, number) for leaf in self.index.features.at("ragged")]
        info = self.index.info
        return self._nest(rows, number, f"{info.name}/{self.split.split}/{number}")

    def ragged(self, leaf: Leaf, holder: int) -> Any:
        """The sequence of one record ("ragged") or step ("ragged_step"): an array, or a list."""
        record = holder if leaf.level == "ragged" else self.position(holder)[0]
        return self._values([(leaf, holder)], record, leaf.name)[0]

    def _nest(self, rows: Sequence[tuple[Leaf, int]], record: int, where: str) -> dict[str, Any]:
        nested: dict[str, Any] = {}
        for (leaf, _), value in zip(rows, self._values(rows, record, where), strict=True):
            _place(nested, leaf.path, value)
        return nested

    def _values(self, rows: Sequence[tuple[Leaf, int]], record: int, where: str) -> list[Any]:
        """The values of (leaf, row), all of one record; their bytes are read in one call."""
        spans = [self._decode.span(leaf, row) for leaf, row in rows]
        pieces = [
            self._piece(leaf, row, record)
            for (leaf, _), (first, last) in zip(rows, spans, strict=True)
            if leaf.kind in ("image", "tensor")
            for row in range(first, last)
        ]
        data = iter(self.files.read_many(pieces))
        values = []
        for (leaf, row), (first, last) in zip(rows, spans, strict=True):
            if leaf.kind in ("image", "tensor"):
                name = f"{where}: {leaf.name}"
                found = [self._decode.bytes(leaf, r, next(data), name) for r in range(first, last)]
                flat = stacked(found, leaf) if leaf.lengths else (found or [None])[0]
            else:
                flat = self._decode.flat(leaf, row, first, last)
            values.append(nested_rows(leaf, self.split, row, flat) if leaf.lengths else flat)
        return values

    def _piece(self, leaf: Leaf, row: int, record: int) -> Piece:
        key, shard = leaf.key, int(self.split.column("episode.shard")[record])
        columns = (self.split.column(f"{key}.{part}")[row] for part in ("offset", "length", "crc"))
        info = self.index.info
        if leaf.level == "step":
            where = self.example_id(row)
        else:
            where = f"{info.name}/{info.version}/{self.split.split}/{record}"
        return Piece(shard, *map(int, columns), f"{where}: {leaf.name}")


def _place(nested: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        nested = nested.setdefault(key, {})
    nested[path[-1]] = value
