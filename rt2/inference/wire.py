"""Frames of the openpi protocol: msgpack maps with numpy arrays in them.

An array is a map with byte-string keys: `{b"__ndarray__": True, b"data": C-order bytes,
b"dtype": "|u1", b"shape": [2, 3]}`; a numpy scalar is `{b"__npgeneric__": True, b"data": value,
b"dtype": "<f4"}`. What is received is checked before an array is built from it: no dtype outside
`DTYPES`, no shape that its bytes do not fill, no object that could run code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np

DTYPES = {
    name: np.dtype(name)
    for name in ("|u1", "<f4", "<f8", "<i4", "<i8", "|b1")  # numpy's names, byte order included
}
MAX_FRAME = 32 * 2**20  # bytes; four raw 1080p cameras
MAX_RANK = 4
MAX_SIDE = 65_536
MAX_TEXT = 8192  # bytes of a string
MAX_ENTRIES = 64  # of one map or list
MAX_CONTAINERS = 1024  # maps and lists of a frame; bounds what small hostile bytes expand to
MAX_DEPTH = 4

_ARRAY, _SCALAR = b"__ndarray__", b"__npgeneric__"
_ARRAY_KEYS = {_ARRAY, b"data", b"dtype", b"shape"}
_SCALAR_KEYS = {_SCALAR, b"data", b"dtype"}


class WireError(ValueError):
    """A frame that is not a valid message; the text names the field."""


def encode(message: Any) -> bytes:
    """The frame of a message: maps, lists, None, bool, int, float, str, numpy arrays and scalars.

    Raises WireError on any other type and on a dtype outside `DTYPES`.
    """
    return msgpack.packb(message, default=_packed)


def decode(frame: bytes) -> Any:
    """The message of a frame; its arrays are copies that may be written to.

    Raises WireError naming the field.
    """
    if len(frame) > MAX_FRAME:
        raise WireError(f"frame of {len(frame)} bytes, at most {MAX_FRAME} are taken")
    return _value(_unpacked(frame), "", 0)


def join(where: str, key: Any) -> str:
    """The dotted name of a field; a key that a client made up is shown short and escaped."""
    plain = isinstance(key, str) and len(key) <= 40 and key.isprintable()
    name = key if plain else f"{key!r:.40}"
    return f"{where}.{name}" if where else name


def _packed(value: Any) -> dict[bytes, Any]:
    if not isinstance(value, np.ndarray | np.generic):
        raise WireError(f"{type(value).__name__} cannot be sent")
    if value.dtype.str not in DTYPES:
        raise WireError(f"arrays of {value.dtype} cannot be sent; known: {', '.join(DTYPES)}")
    dtype = {b"dtype": value.dtype.str}
    if isinstance(value, np.ndarray):
        return {_ARRAY: True, b"data": value.tobytes(), **dtype, b"shape": value.shape}
    return {_SCALAR: True, b"data": value.item(), **dtype}


def _unpacked(frame: bytes) -> Any:
    """Plain msgpack values, with limits on what they may grow to in memory."""
    containers = 0

    def count() -> None:
        nonlocal containers
        containers += 1
        if containers > MAX_CONTAINERS:
            raise WireError(f"more than {MAX_CONTAINERS} maps and lists in a frame")

    def listed(items: list[Any]) -> list[Any]:
        count()
        return items

    def mapped(pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
        count()
        made = dict(pairs)
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            raise WireError(f"{join('', next(k for k in keys if keys.count(k) > 1))}: given twice")
        return made

    try:
        return msgpack.unpackb(
            frame,
            list_hook=listed,
            object_pairs_hook=mapped,
            max_str_len=MAX_TEXT,
            max_bin_len=MAX_FRAME,
            max_array_len=MAX_ENTRIES,
            max_map_len=MAX_ENTRIES,
            max_ext_len=0,
        )
    except WireError:
        raise
    except (ValueError, msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise WireError(f"not a msgpack message: {reason}") from None


def _value(node: Any, where: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise WireError(f"{where}: nested deeper than {MAX_DEPTH}")
    if isinstance(node, dict):
        if _ARRAY in node:
            return _array(node, where)
        if _SCALAR in node:
            return _scalar(node, where)
        for key in node:
            if not isinstance(key, str):
                raise WireError(f"{join(where, key)}: a {type(key).__name__} key, expected str")
        return {key: _value(item, join(where, key), depth + 1) for key, item in node.items()}
    if isinstance(node, list):
        return [_value(item, join(where, str(i)), depth + 1) for i, item in enumerate(node)]
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise WireError(f"{where or 'frame'}: {type(node).__name__}, expected text, number or array")


def array(name: Any, shape: Any, data: Any, where: str) -> np.ndarray:
    """An array of received parts, each checked before memory is taken; a copy of the bytes.

    `name` is numpy's name of the dtype. Raises WireError that begins with `where`.
    """
    dtype = _known(name, where)
    if not isinstance(data, bytes):
        raise WireError(f"{where}: array data is {type(data).__name__}, expected bytes")
    if not isinstance(shape, list) or len(shape) > MAX_RANK:
        raise WireError(f"{where}: an array needs a list of at most {MAX_RANK} sizes as its shape")
    if not all(type(side) is int and 1 <= side <= MAX_SIDE for side in shape):
        raise WireError(f"{where}: sizes of an array must be integers of 1..{MAX_SIDE}")
    needed = math.prod(shape) * dtype.itemsize
    if needed != len(data):
        raise WireError(f"{where}: {len(data)} bytes, {dtype} {shape} has {needed}")
    if dtype.kind == "b" and data.strip(b"\x00\x01"):
        raise WireError(f"{where}: a bool array may hold bytes 0 and 1 alone")
    return np.frombuffer(data, dtype).reshape(shape).copy()


def _array(node: dict[Any, Any], where: str) -> np.ndarray:
    _check_keys(node, _ARRAY, _ARRAY_KEYS, where)
    return array(node[b"dtype"], node[b"shape"], node[b"data"], where)


def _scalar(node: dict[Any, Any], where: str) -> np.generic:
    _check_keys(node, _SCALAR, _SCALAR_KEYS, where)
    dtype, data = _known(node[b"dtype"], where), node[b"data"]
    kinds = {"b": (bool,), "u": (int,), "i": (int,), "f": (int, float)}[dtype.kind]
    if type(data) not in kinds:
        raise WireError(f"{where}: a {dtype} scalar of type {type(data).__name__}")
    if dtype.kind in "ui" and not np.iinfo(dtype).min <= data <= np.iinfo(dtype).max:
        raise WireError(f"{where}: {data} does not fit in {dtype}")
    if dtype.kind == "f" and math.isfinite(data) and abs(data) > float(np.finfo(dtype).max):
        raise WireError(f"{where}: {data} does not fit in {dtype}")
    return dtype.type(data)


def _check_keys(node: dict[Any, Any], tag: bytes, keys: set[bytes], where: str) -> None:
    if set(node) != keys or node[tag] is not True:
        wanted = ", ".join(sorted(key.decode() for key in keys))
        raise WireError(f"{where or 'frame'}: a numpy value has exactly the keys {wanted}")


def _known(name: Any, where: str) -> np.dtype:
    if not isinstance(name, str) or name not in DTYPES:
        raise WireError(f"{where}: dtype {name!r:.20}, expected one of {', '.join(DTYPES)}")
    return DTYPES[name]
