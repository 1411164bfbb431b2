"""Where arrays live: a mesh of three axes and a short table from logical to mesh axes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rt2.errors import UserError
from rt2.models.build import Model

MESH_AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))
LISTED = 4  # arrays named in the log of what stays whole

Rules = Mapping[str | None, str | None]
STRATEGIES: dict[str, Rules] = {
    "dp": dict.fromkeys((None, "layers", "embed", "vision", "patch", "mlp", "heads", "vocab")),
    "fsdp": {
        **dict.fromkeys((None, "layers", "vision", "patch", "mlp", "heads", "vocab")),
        "embed": "fsdp",
    },
    "fsdp+tp": {
        **dict.fromkeys((None, "layers")),
        "embed": "fsdp",
        "vision": "tensor",
        "patch": "tensor",
        "mlp": "tensor",
        "heads": "tensor",
        "vocab": "tensor",
    },
}
for _rules in STRATEGIES.values():
    _rules["head_dim"] = None

log = logging.getLogger(__name__)


class ShardingError(UserError):
    """A mesh, batch or parameter that cannot be laid out; the message carries the remedy."""


def make_mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with axes data, fsdp, tensor over `devices`, by default all of them."""
    devices = jax.devices() if devices is None else devices
    shape = mesh_sizes(sizes, len(devices))
    return Mesh(arranged(devices, tuple(shape.values())), tuple(shape))


def arranged(devices: Sequence[jax.Device], shape: tuple[int, ...]) -> np.ndarray:
    """The devices in `shape`: on a slice of TPUs an axis takes whole sides of the torus if it can.

    Elsewhere, and over several slices, they keep their order, so that the last axis stays within a
    host.
    """
    slices = {getattr(device, "slice_index", 0) for device in devices}  # described ones have none
    if devices[0].platform != "tpu" or len(slices) > 1:
        return np.asarray(devices).reshape(shape)
    return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)


def platform(mesh: Mesh) -> str | None:
    """What the devices of `mesh` are ("tpu"); None where they are abstract."""
    return mesh.devices.flat[0].platform if isinstance(mesh, Mesh) else None


def mesh_sizes(sizes: Mapping[str, int], devices: int) -> dict[str, int]:
    """Sizes of the axes data, fsdp, tensor; one may be -1 and takes what is left."""
    if unknown := set(sizes) - set(MESH_AXES):
        raise ShardingError(f"mesh axes {sorted(unknown)} are unknown; known: {MESH_AXES}")
    shape = [sizes[axis] for axis in MESH_AXES]
    known = math.prod(size for size in shape if size != -1)
    if shape.count(-1) == 1 and known > 0 and devices % known == 0:
        shape[shape.index(-1)] = devices // known
    if math.prod(shape) != devices or min(shape) < 1:
        raise ShardingError(
            f"mesh {dict(sizes)} does not fit {devices} devices: the product of "
            "--config.mesh.data, .fsdp and .tensor must equal their number (one may be -1)"
        )
    return dict(zip(MESH_AXES, shape, strict=True))


def check_batch(batch_size: int, mesh: Mesh, accumulate: int) -> None:
    """Raises ShardingError unless each of `accumulate` parts of a batch divides over the mesh."""
    if accumulate < 1:
        raise ShardingError(f"--config.accumulate={accumulate}: expected 1 part or more")
    devices = mesh.shape["data"] * mesh.shape["fsdp"]
    parts = devices * accumulate
    if batch_size < 1 or batch_size % parts:
        raise ShardingError(
            f"batch_size {batch_size} is not divisible by data*fsdp = {devices} times accumulate = "
            f"{accumulate}: use --config.batch_size={max(batch_size // parts, 1) * parts} or "
            "another mesh"
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over data and fsdp, the rest whole."""
    return NamedSharding(mesh, BATCH)


def rows_here(mesh: Mesh, batch_size: int) -> np.ndarray:
    """int64 numbers of the rows of a global batch that this process's devices hold, ascending.

    Processes whose devices differ along `tensor` alone hold the same rows.
    """
    held = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[rows] for rows in held]))


def place_rows(mesh: Mesh, rows: np.ndarray, array: np.ndarray, batch_size: int) -> jax.Array:
    """The global array [batch_size, ...] of which this process gives `rows`, [len(rows), ...]."""

    def shard(index: tuple[slice, ...]) -> np.ndarray:
        begin, end, _ = index[0].indices(batch_size)
        first = int(np.searchsorted(rows, begin))
        return array[first : first + end - begin]

    shape = (batch_size, *array.shape[1:])
    return jax.make_array_from_callback(shape, batch_sharding(mesh), shard)


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def parameter_shardings(model: Model, strategy: str, mesh: Mesh) -> dict[str, NamedSharding]:
    """A NamedSharding for every parameter of `model`, by its path.

    An axis that does not divide over its mesh axis stays whole. So does a vector (a norm's scale, a
    bias) over fsdp: it is smaller than the messages that would gather it.
    """
    if strategy not in STRATEGIES:
        raise ShardingError(f"strategy {strategy!r} is unknown; known: {sorted(STRATEGIES)}")
    rules = STRATEGIES[strategy]
    return {
        path: NamedSharding(mesh, _spec(path, model.axes[path], shape.shape, rules, mesh))
        for path, shape in model.shapes.items()
    }


def _spec(
    path: str, axes: Sequence[str | None], shape: Sequence[int], rules: Rules, mesh: Mesh
) -> PartitionSpec:
    vector = len([axis for axis in axes if axis != "layers"]) == 1
    spec: list[str | None] = []
    for axis, size in zip(axes, shape, strict=True):
        if axis not in rules:
            raise ShardingError(f"{path}: logical axis {axis!r} is in no rule of the strategy")
        target = rules[axis]
        whole = target is None or target in spec or size % mesh.shape[target]
        spec.append(None if whole or (vector and target == "fsdp") else target)
    return PartitionSpec(*spec)


def state_shardings(tree: Any, parameters: Mapping[str, NamedSharding], model: Model, mesh: Mesh):
    """Shardings for any tree that holds arrays under parameter paths, such as optimizer moments.

    Every axis is laid out as its parameter's; one that is averaged over (a factored moment has 1
    there) stays whole, and so does what belongs to no parameter.
    """

    def place(keys, leaf):
        path = next((k.key for k in reversed(keys) if getattr(k, "key", None) in parameters), None)
        if path is None:
            return replicated(mesh)
        shape, spec = model.shapes[path].shape, parameters[path].spec
        if len(shape) != len(leaf.shape):
            return replicated(mesh)
        kept = (
            axis if a == b else None for a, b, axis in zip(shape, leaf.shape, spec, strict=True)
        )
        return NamedSharding(mesh, PartitionSpec(*kept))

    return jax.tree_util.tree_map_with_path(place, tree)


def lay_out(make: Callable[[jax.Array], Any], model: Model, strategy: str, mesh: Mesh):
    """(shapes, shardings) of the state that `make` draws from a key; no array is made.

    What stays whole on every device is logged, once.
    """
    shapes = jax.eval_shape(make, jax.random.key(0))
    shardings = state_shardings(shapes, parameter_shardings(model, strategy, mesh), model, mesh)
    if mesh.shape["fsdp"] * mesh.shape["tensor"] > 1:
        _report_whole(shapes, shardings)
    return shapes, shardings


def _report_whole(shapes: Any, shardings: Any) -> None:
    sizes = {
        jax.tree_util.keystr(keys): shape.size * shape.dtype.itemsize / 2**20
        for (keys, shape), where in zip(
            jax.tree_util.tree_leaves_with_path(shapes), jax.tree.leaves(shardings), strict=True
        )
        if where.is_fully_replicated
    }
    largest = sorted(sizes, key=sizes.get, reverse=True)[:LISTED]
    log.info(
        "%d arrays, %.1f MiB, stay whole on every device; the largest: %s",
        len(sizes),
        sum(sizes.values()),
        ", ".join(f"{path} {sizes[path]:.2f} MiB" for path in largest),
    )
