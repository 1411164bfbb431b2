"""Reading checkpoints: find a step, read what travels with it, restore verified parameters.

A step's folder holds four items: `params`, `state` (optimizer and step), `assets` (model,
preprocessing, config, data hashes) and `manifest` (a fingerprint of every array). Orbax notices no
flipped bit in array data; the fingerprints do. They are sums over the bits of an array, exact in
integer arithmetic, so they do not depend on how it is sharded.
"""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from rt2.errors import UserError
from rt2.models.build import Model, Params

FORMAT = 1
MULTIPLIERS = (2654435761, 2246822519)  # odd, so that no single flipped bit can cancel

log = logging.getLogger(__name__)


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or of another model; the message names the file."""


class DamagedCheckpointError(CheckpointError):
    """Bytes on disk that are not what was saved."""


@jax.jit
def _sums(tree: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    return {path: _bit_sums(array) for path, array in tree.items()}


def _bit_sums(array: jax.Array) -> jax.Array:
    array = jnp.asarray(array)
    array = array.astype(jnp.uint8) if array.dtype == bool else array
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[array.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32)
    position = jnp.zeros(array.shape, jnp.uint32)
    for axis, size in enumerate(array.shape):
        index = jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis)
        position = position * jnp.uint32(size) + index
    odd = [(position * jnp.uint32(m) + jnp.uint32(m)) | jnp.uint32(1) for m in MULTIPLIERS]
    return jnp.stack([jnp.sum(bits * o, dtype=jnp.uint32) for o in odd])


def fingerprint(tree: Any) -> dict[str, list[Any]]:
    """[dtype, shape, two 32-bit sums] of every array of `tree`, by its path."""
    leaves = {jax.tree_util.keystr(k): x for k, x in jax.tree_util.tree_leaves_with_path(tree)}
    sums = jax.device_get(_sums(leaves))
    return {
        path: [str(leaf.dtype), list(leaf.shape), *(int(s) for s in sums[path])]
        for path, leaf in leaves.items()
    }


def find(path: str | pathlib.Path) -> pathlib.Path:
    """The folder of one step: `path` itself, or the newest committed step of a workdir."""
    path = pathlib.Path(path).absolute()
    if (path / "assets").is_dir():
        return path
    for folder in (path / "checkpoints", path):
        if folder.is_dir():
            steps = [p for p in folder.iterdir() if p.name.isdigit() and (p / "assets").is_dir()]
            if steps:
                return max(steps, key=lambda p: int(p.name))
    raise CheckpointError(
        f"{path}: no checkpoint here. Give a workdir of `python -m rt2.train` or one of its "
        "checkpoints/STEP folders"
    )


def read_json(step_folder: pathlib.Path, item: str) -> dict[str, Any]:
    """The JSON item `assets` or `manifest` of a step."""
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
        try:
            data = checkpointer.restore(step_folder / item)
        except (FileNotFoundError, ValueError) as error:
            raise DamagedCheckpointError(f"{step_folder / item}: unreadable ({error})") from error
    if item == "assets" and data["format"] != FORMAT:
        raise CheckpointError(f"{step_folder}: format {data['format']}, this code reads {FORMAT}")
    return data


def read_tree(step_folder: pathlib.Path, item: str, target: Any) -> Any:
    """Arrays of `item` in the structure, dtypes and shardings of `target`, verified.

    `target` is a tree of jax.ShapeDtypeStruct. Raises CheckpointError naming the first array that
    is missing, of another shape or dtype, or whose bits changed since it was saved.
    """
    saved = read_json(step_folder, "manifest")[item]
    wanted = {
        jax.tree_util.keystr(k): [str(x.dtype), list(x.shape)]
        for k, x in jax.tree_util.tree_leaves_with_path(target)
    }
    compare(step_folder / item, saved, wanted)
    damage = None
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        try:
            tree = checkpointer.restore(step_folder / item, args=ocp.args.StandardRestore(target))
        except Exception as error:  # orbax and tensorstore raise many kinds; all mean damage here
            damage = error
    if not _everywhere(damage is None):
        reason = damage or "another process could not read its part"
        raise DamagedCheckpointError(f"{step_folder / item}: damaged ({reason})") from damage
    for path, row in fingerprint(tree).items():
        if row != saved[path]:
            raise DamagedCheckpointError(
                f"{step_folder / item}: array {path} is not what was saved (bits changed on "
                "disk). Use an earlier step, or copy the checkpoint again from its source"
            )
    return tree


def _everywhere(good: bool) -> bool:
    """Whether it is so on all processes of a run: they go on together or not at all."""
    return bool(np.all(multihost_utils.process_allgather(np.array(good))))


def compare(place: Any, saved: Mapping[str, list], wanted: Mapping[str, list]) -> None:
    """Raises CheckpointError with a readable difference of paths, dtypes and shapes."""
    rows = []
    for path in sorted(set(saved) | set(wanted)):
        have, want = saved.get(path, [])[:2], wanted.get(path, [])
        if have != want:
            rows.append(f"  {path}: checkpoint {have or 'none'}, config {want or 'none'}")
    if rows:
        more = f"\n  ... and {len(rows) - 8} more" if len(rows) > 8 else ""
        raise CheckpointError(
            f"{place}: another model than the config's:\n"
            + "\n".join(rows[:8])
            + more
            + "\nUse the config that trained it, or another workdir"
        )


def read_params(
    step_folder: pathlib.Path, model: Model, shardings: Mapping[str, Any] | None = None
) -> Params:
    """The model's parameters, verified, on one device or as `shardings` says."""
    one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = {
        path: jax.ShapeDtypeStruct(
            shape.shape, shape.dtype, sharding=shardings[path] if shardings else one
        )
        for path, shape in model.shapes.items()
    }
    return read_tree(step_folder, "params", target)
