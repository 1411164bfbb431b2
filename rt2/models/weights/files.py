"""Tensors in files, as views of mapped memory: nothing is read before it is used.

Safetensors (one file, or shards with an index) and numpy's npz. Every tensor is a numpy array over
the file's own bytes; only compressed npz members are read whole, one at a time.
"""

from __future__ import annotations

import ast
import json
import math
import mmap
import pathlib
import struct
import zipfile
from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np
import safetensors

from rt2.errors import UserError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
SAFETENSORS_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(bool),
}
NPY_HEADERS = {1: "<H", 2: "<I", 3: "<I"}  # version of the npy format -> its header's length field


class WeightsError(UserError):
    """Weights that cannot be read or do not fit the model; the message names file and tensor."""


class Tensors(Mapping[str, np.ndarray]):
    """Tensors by name. `metadata` is what the file says of itself, {} for npz."""

    def __init__(
        self, path: pathlib.Path, read: Mapping[str, Callable[[], np.ndarray]], maps: list, **said
    ):
        self.path, self._read, self._maps, self.metadata = path, dict(read), maps, said

    def __getitem__(self, name: str) -> np.ndarray:
        return self._read[name]()

    def __iter__(self):
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)

    def release(self) -> None:
        """Gives the pages that were read back to the system; they are read again on use."""
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)


def open_tensors(path: str | pathlib.Path) -> Tensors:
    """The tensors of a .safetensors or .npz file, or of a folder with model.safetensors in it.

    Raises WeightsError where nothing readable is there.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        path = next((path / n for n in (INDEX, SINGLE) if (path / n).is_file()), path)
    if path.name.endswith(".index.json"):
        return _open_shards(path)
    if path.is_file() and path.suffix == ".safetensors":
        read, maps, said = _open_safetensors(path)
        return Tensors(path, read, maps, **said)
    if path.is_file() and path.suffix == ".npz":
        return _open_npz(path)
    raise WeightsError(
        f"{path}: no weights here. Expected a .safetensors or .npz file, or a folder with "
        f"{SINGLE} or {INDEX} in it"
    )


def _open_shards(index: pathlib.Path) -> Tensors:
    try:
        described = json.loads(index.read_text("utf-8"))
        places: dict[str, str] = described["weight_map"]
        files = sorted(set(places.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index}: not an index of safetensors shards ({error!r})") from error
    read, maps = {}, []
    for name in files:
        if pathlib.PurePath(name).name != name or not (index.parent / name).is_file():
            raise WeightsError(f"{index}: names the shard {name!r}, which is not beside it")
        tensors, mapped, _ = _open_safetensors(index.parent / name)
        read |= tensors
        maps += mapped
    wrong = sorted(set(read) ^ set(places))
    if wrong:
        raise WeightsError(f"{index}: the index and the shards differ in {wrong[:5]}")
    return Tensors(index, read, maps, **described.get("metadata", {}))


def _open_safetensors(path: pathlib.Path) -> tuple[dict, list, dict]:
    try:
        safetensors.safe_open(path, "numpy")  # checks the header: offsets, sizes, dtypes
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: damaged or no safetensors file ({error})") from error
    mapped = _map(path)
    (length,) = struct.unpack("<Q", mapped[:8])
    header = json.loads(bytes(mapped[8 : 8 + length]))
    said = header.pop("__metadata__", {})
    read = {}
    for name, row in header.items():
        if row["dtype"] not in SAFETENSORS_DTYPES:
            raise WeightsError(f"{path}: {name} has dtype {row['dtype']}, which is not read here")
        start = 8 + length + row["data_offsets"][0]
        dtype = SAFETENSORS_DTYPES[row["dtype"]]
        read[name] = _view(mapped, dtype, tuple(row["shape"]), start)
    return read, [mapped], said


def _open_npz(path: pathlib.Path) -> Tensors:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise WeightsError(f"{path}: damaged or no npz file ({error})") from error
    mapped = _map(path)
    read = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if member.compress_type == zipfile.ZIP_STORED:
            read[name] = _stored(path, mapped, member)
        else:
            read[name] = _compressed(path, archive, member)
    return Tensors(path, read, [mapped])


def _stored(path: pathlib.Path, mapped: mmap.mmap, member: zipfile.ZipInfo) -> Callable:
    # a zip entry: 30 bytes of which the last four are the lengths of name and extra field
    names = struct.unpack("<HH", mapped[member.header_offset + 26 : member.header_offset + 30])
    start = member.header_offset + 30 + sum(names)
    try:
        dtype, shape, order, offset = _npy_header(memoryview(mapped)[start:])
    except (ValueError, SyntaxError, KeyError, struct.error) as error:
        raise WeightsError(f"{path}: {member.filename} is no array ({error!r})") from error
    if offset + dtype.itemsize * math.prod(shape) != member.file_size:
        raise WeightsError(f"{path}: {member.filename} has not the bytes of {dtype} {shape}")
    return _view(mapped, dtype, shape, start + offset, order)


def _npy_header(data: memoryview) -> tuple[np.dtype, tuple[int, ...], str, int]:
    """(dtype, shape, order, length of the header) of an npy file that starts with `data`."""
    if bytes(data[:6]) != b"\x93NUMPY":
        raise ValueError("not in numpy's format")
    field = NPY_HEADERS[data[6]]
    begin = 8 + struct.calcsize(field)
    (length,) = struct.unpack(field, data[8:begin])
    row = ast.literal_eval(bytes(data[begin : begin + length]).decode("latin1"))
    order = "F" if row["fortran_order"] else "C"
    return _dtype(np.dtype(row["descr"])), tuple(row["shape"]), order, begin + length


def _compressed(path: pathlib.Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable:
    def read() -> np.ndarray:
        try:
            with archive.open(member) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, zipfile.BadZipFile) as error:
            raise WeightsError(f"{path}: {member.filename} is no array ({error})") from error
        return array.view(_dtype(array.dtype))

    return read


def _dtype(dtype: np.dtype) -> np.dtype:
    """`dtype`; two bytes without a type are bfloat16, which numpy's format cannot name."""
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return np.dtype(ml_dtypes.bfloat16) if dtype.str == "|V2" else dtype


def _map(path: pathlib.Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _view(
    mapped: mmap.mmap, dtype: np.dtype, shape: tuple[int, ...], start: int, order: str = "C"
) -> Callable[[], np.ndarray]:
    return lambda: np.ndarray(shape, dtype, buffer=mapped, offset=start, order=order)
