"""Where activations lie on a mesh of the trainer's axes: rows over `data` and `fsdp`.

Without these marks XLA's partitioner spreads the width of an activation, as its parameters are
spread over `fsdp`, and computes every row of the batch on every device. Outside such a mesh, and
where its axes do not divide the array, all of them do nothing.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

Array = jax.Array
AXES = ("data", "fsdp", "tensor")
ROWS = ("data", "fsdp")
WIDTH = "embed"  # the logical axis that lies over fsdp
ANY = PartitionSpec.UNCONSTRAINED


def shards(axes: tuple[str, ...]) -> int:
    """Over how many devices the mesh axes go together; 1 without a mesh."""
    mesh = jax.sharding.get_abstract_mesh().shape
    return math.prod(mesh[axis] for axis in axes) if set(AXES) <= set(mesh) else 1


def constrain(x: Array, *axes) -> Array:
    """`x` with its first dimensions over mesh axes: a tuple, None for whole, or ANY."""
    if not set(AXES) <= set(jax.sharding.get_abstract_mesh().shape):
        return x
    named = [axis if isinstance(axis, tuple) else () for axis in axes]
    if any(size % shards(axis) for size, axis in zip(x.shape, named, strict=False)):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))


def by_rows(x: Array) -> Array:
    """`x` [B, ...] with its rows spread and the rest whole."""
    return constrain(x, ROWS)


@jax.custom_vjp
def everywhere(x: Array) -> Array:
    """A whole copy of `x` on every device; its gradient is spread by rows again."""
    return constrain(x, None)


everywhere.defvjp(lambda x: (everywhere(x), None), lambda _, gradient: (by_rows(gradient),))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def gathered(kernel: Array, axes: tuple[str | None, ...]) -> Array:
    """A parameter with its width whole, for use; its gradient is spread again at once.

    `axes` are its logical names. Cast it first: what is gathered moves in its dtype.
    """
    return _width(kernel, axes, None)


def _width(kernel: Array, axes: tuple[str | None, ...], where: tuple[str, ...] | None) -> Array:
    return constrain(kernel, *(where if axis == WIDTH else ANY for axis in axes))


def _forward(kernel, axes):
    return gathered(kernel, axes), None


def _backward(axes, _, gradient):
    return (_width(gradient, axes, ("fsdp",)),)


gathered.defvjp(_forward, _backward)


def lookup(table: Array, tokens: Array) -> Array:
    """table[tokens] for [V, D] and int [B, L], its width spread.

    Every device looks all rows up in its part of the width; `by_rows` then changes width for rows.
    """
    if tokens.size == 1 and shards(AXES) > 1:
        # one row is a slice to the partitioner, for which it gathers the whole table
        return lookup(table, jnp.repeat(tokens, 2, axis=1))[:, :1]
    return constrain(table[constrain(tokens, ("data",))], ("data",), None, ("fsdp",))


def by_vocabulary(x: Array, axis: int) -> Array:
    """`x` with the dimension `axis` of token ids over as many devices as divide it."""
    for axes in (AXES, AXES[1:], ROWS, ("fsdp",), ("tensor",)):
        if x.shape[axis] % shards(axes) == 0:
            return constrain(x, *[None] * axis, axes)
    return x
