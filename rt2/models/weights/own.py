"""Our own weights as safetensors: parameters under their paths, with what describes them.

A file carries its description in its metadata. A folder of shards has the index that other readers
know, model.safetensors.index.json, and the description in assets.json. Both carry a digest of every
array, which is checked before anything is placed.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from rt2.models.build import Params
from rt2.models.weights.files import INDEX, Tensors, WeightsError

ASSETS = "assets.json"


def write_file(path: pathlib.Path, params: Params, assets: Mapping[str, Any], dtype: Any) -> None:
    """One file with `params` as `dtype` and the JSON values `assets` in its metadata."""
    arrays = {name: _host(array.astype(dtype)) for name, array in params.items()}
    said = {"assets": json.dumps(assets, sort_keys=True), "digest": digest(arrays)}
    safetensors.numpy.save_file(arrays, path, metadata=said)


def write_folder(
    folder: pathlib.Path, params: Params, assets: Mapping[str, Any], shard_bytes: int
) -> list[pathlib.Path]:
    """A folder of shards of at most `shard_bytes` each, but for a single larger array.

    Bits and dtypes stay as they are. Returns the shards; the index, without which the folder is
    none, is written last.
    """
    places = write_shards(folder, params, shard_bytes)
    described = json.dumps(assets, sort_keys=True).encode()
    (folder / ASSETS).write_bytes(described)
    said = {
        "total_size": sum(array.nbytes for array in params.values()),
        "digest": digest(params),
        "assets_digest": hashlib.sha256(described).hexdigest(),
    }
    (folder / INDEX).write_text(json.dumps({"metadata": said, "weight_map": places}, indent=1))
    return [folder / name for name in dict.fromkeys(places.values())]


def write_shards(folder: pathlib.Path, params: Params, shard_bytes: int) -> dict[str, str]:
    """The shards alone, as `write_folder` has them; returns the file's name of every array."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = list(_parts(params, shard_bytes))
    places = {}
    for i, part in enumerate(parts, 1):
        name = f"model-{i:05d}-of-{len(parts):05d}.safetensors"
        safetensors.numpy.save_file({path: _host(params[path]) for path in part}, folder / name)
        (folder / name).chmod(0o644)  # written for its owner alone
        places |= dict.fromkeys(part, name)
    return places


def described(tensors: Tensors) -> dict[str, Any] | None:
    """What was written as `assets`, None where the weights are not our own.

    Raises WeightsError where the description is not what was written.
    """
    said = tensors.metadata
    if "digest" not in said:
        return None
    if "assets" in said:
        return json.loads(said["assets"])
    path = tensors.path.parent / ASSETS
    text = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(text).hexdigest() != said["assets_digest"]:
        raise WeightsError(f"{path}: {_DAMAGED}")
    return json.loads(text)


def verify(tensors: Tensors) -> None:
    """Raises WeightsError where a bit of our own weights is not what was written."""
    if digest(tensors) != tensors.metadata["digest"]:
        raise WeightsError(f"{tensors.path}: {_DAMAGED}")
    tensors.release()


_DAMAGED = "its bytes are not what was written; copy it again from its source"


def digest(arrays: Mapping[str, Any]) -> str:
    """SHA-256 over names and bytes."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(name.encode())
        total.update(_host(arrays[name]).reshape(-1).view(np.uint8))
    return total.hexdigest()


def _parts(params: Params, shard_bytes: int) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for path, array in params.items():
        if part and size + array.nbytes > shard_bytes:
            yield part
            part, size = [], 0
        part.append(path)
        size += array.nbytes
    yield part


def _host(array: Any) -> np.ndarray:
    return np.ascontiguousarray(jax.device_get(array))
