"""From the tensors of a file to the parameters of a model, each placed as soon as it is read.

A parameter is copied once, from the mapped file into the memory of its shard, so that the host
never holds the model twice.
"""

from __future__ import annotations

import functools
import logging
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rt2.models.build import Model, Params
from rt2.models.weights.files import open_tensors
from rt2.models.weights.match import dropped, find, some, sources

TILE = 64

log = logging.getLogger(__name__)


def load(
    path: str | pathlib.Path,
    model: Model,
    shardings: Mapping[str, Any],
    *,
    part: str = "",
    dtype: Any = None,
) -> Params:
    """The parameters that `path` has for `model`, those of `part` alone where one is named.

    Each lies as `shardings` says, in the model's dtype or in `dtype`. A table of another vocabulary
    is fitted as `match.fit_rows` says, positions of another resolution are resampled. Raises
    WeightsError naming every tensor and parameter that does not fit, before anything is placed.
    """
    found = find(open_tensors(path), model, part)
    log.info("%s: %s, into %s", path, found.layout.name, ", ".join(found.parts))
    for reason, names in sorted(dropped(found).items()):
        log.info("%s: left out %s: %s", path, some(names), reason)
    params = {}
    for name, pieces in sources(found, model).items():
        shape = model.shapes[name]
        read = functools.partial(_assemble, pieces, shape.shape, np.dtype(dtype or shape.dtype))
        params[name] = jax.make_array_from_callback(shape.shape, shardings[name], read)
        params[name].block_until_ready()
        found.tensors.release()
    return params


def _assemble(
    pieces: Sequence[np.ndarray], shape: Sequence[int], dtype: np.dtype, index: tuple[slice, ...]
) -> np.ndarray:
    """The part `index` of the array of `shape` that `pieces` make along the first axis."""
    bounds = [where.indices(size)[:2] for where, size in zip(index, shape, strict=True)]
    first, last = bounds[0]
    out = _aligned([stop - start for start, stop in bounds], dtype)
    begin = 0
    for piece in pieces:
        start, stop = max(first, begin), min(last, begin + len(piece))
        if start < stop:
            part = piece[start - begin : stop - begin][(slice(None), *index[1:])]
            _copy(out[start - first : stop - first], part)
        begin += len(piece)
    return out


def _copy(out: np.ndarray, part: np.ndarray) -> None:
    """`part` into `out`; a transposed one by tiles that the cache holds (2.5 times as fast)."""
    tile = out.shape[-1] if part.flags.c_contiguous else TILE
    for i in range(0, out.shape[-1], tile):
        out[..., i : i + tile] = part[..., i : i + tile]


def _aligned(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Uninitialised memory on a boundary of 64 bytes, which JAX takes over on a CPU uncopied."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)
