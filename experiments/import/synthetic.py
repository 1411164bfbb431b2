"""A checkpoint of PaliGemma's published names and shapes with random bfloat16 values.

Written tensor by tensor into three shards, as the published one is. Every tensor's bits follow from
its name, so that what was loaded can be compared without a second copy.
"""

import json
import struct
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np

SHARDS = 3
CHUNK = 1 << 26  # values written at once


def bits(name: str, size: int):
    """Chunks of uint16: bfloat16 of either sign between 2^-7 and 2^-5."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for start in range(0, size, CHUNK):
        count = min(CHUNK, size - start)
        yield (rng.integers(0, 1 << 16, count, np.uint16) & 0x80FF) | 0x3C00


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The values of one tensor, bfloat16."""
    whole = np.concatenate(list(bits(name, int(np.prod(shape)))))
    return whole.view(ml_dtypes.bfloat16).reshape(shape)


def write(folder: Path, shapes: dict[str, tuple[int, ...]]) -> int:
    """Writes the shards and their index; returns the bytes of all tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {name: 2 * int(np.prod(shape)) for name, shape in shapes.items()}
    total, done, places = sum(sizes.values()), 0, {}
    for name, size in sizes.items():
        shard = min(done * SHARDS // total, SHARDS - 1) + 1
        places[name] = f"model-{shard:05d}-of-{SHARDS:05d}.safetensors"
        done += size
    for file in sorted(set(places.values())):
        chosen = {name: shapes[name] for name, place in places.items() if place == file}
        _write_file(folder / file, chosen)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def _write_file(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            for chunk in bits(name, int(np.prod(shape))):
                file.write(chunk.tobytes())
