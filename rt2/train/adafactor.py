"""Adafactor (Shazeer and Stern 2018) as T5X runs it over stacked layers.

Each layer of a stack is a block of its own: it has its own update clipping and its own scale, as if
its parameters stood alone. optax's works on whole arrays: it would clip a stack by the root mean
square over all layers, and keep an attention's second moments whole because a head is narrow.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rt2.models import layers
from rt2.models.build import Model

Array = jax.Array
Sides = tuple[tuple[int, ...], tuple[int, ...]]
DECAY = 0.8  # beta2 of step t is 1 - t^-DECAY
CLIP = 1.0  # largest root mean square of a block's update before it is scaled
FACTOR_FROM = 128
SMALLEST_SCALE = 1e-3
TINY = 1e-30


class AdafactorState(NamedTuple):
    """Second moments by parameter path, with 1 where an axis was averaged over."""

    count: Array  # int32 []
    v_row: dict[str, Array]  # of factored matrices: mean over the outputs
    v_col: dict[str, Array]  # of factored matrices: mean over the inputs
    v: dict[str, Array]  # of everything else


def adafactor(
    model: Model, schedule: optax.Schedule, factor_from: int = FACTOR_FROM
) -> optax.GradientTransformation:
    """Without momentum; the update of a block is scaled by its root mean square.

    `schedule` is relative to that scale: 1e-3 changes a parameter by a thousandth of it. A matrix
    with a side below `factor_from` keeps its second moments whole.
    """

    def sides_of(path: str) -> Sides | None:
        return factored_sides(model.axes[path], model.shapes[path].shape, factor_from)

    def init(params: dict[str, Array]) -> AdafactorState:
        state = AdafactorState(jnp.zeros((), jnp.int32), {}, {}, {})
        for path, p in params.items():
            sides = sides_of(path)
            if sides is None:
                state.v[path] = jnp.zeros(p.shape)
            else:
                state.v_col[path], state.v_row[path] = (_averaged(p, side) for side in sides)
        return state

    def update(grads, state: AdafactorState, params):
        count = state.count + 1
        decay = 1 - jnp.asarray(count, jnp.float32) ** -DECAY
        rate = schedule(state.count)
        new = AdafactorState(count, {}, {}, {})
        updates = {}
        done = jnp.zeros(())  # something of the parameter before
        for path, g in grads.items():
            square, sides = jnp.square(g), sides_of(path)
            if layers.on_cpu():  # where every square would be made first, and held
                square += 0 * done
            if sides is None:
                new.v[path] = _mix(decay, state.v[path], square + TINY)
                factors = (jax.lax.rsqrt(new.v[path]),)
            else:
                inputs, outputs = sides
                row = _mix(decay, state.v_row[path], _mean(square, outputs) + TINY)
                col = _mix(decay, state.v_col[path], _mean(square, inputs) + TINY)
                new.v_row[path], new.v_col[path] = row, col
                factors = jax.lax.rsqrt(row / _mean(row, inputs)), jax.lax.rsqrt(col)
            block = tuple(i for i, axis in enumerate(model.axes[path]) if axis != "layers")
            # from the squares, so that nothing of the parameter's size is kept for a second use
            rms = jnp.sqrt(_mean(math.prod(map(jnp.square, factors), start=square), block))
            done = rms.sum()
            size = jnp.maximum(jnp.sqrt(_mean(jnp.square(params[path]), block)), SMALLEST_SCALE)
            rate_here = -rate * size / jnp.maximum(1.0, rms / CLIP)
            updates[path] = math.prod(factors, start=g) * rate_here
        return updates, new

    return optax.GradientTransformation(init, update)


def factored_sides(
    axes: tuple[str | None, ...], shape: tuple[int, ...], factor_from: int
) -> Sides | None:
    """The input axes and the output axes of a matrix that is factored, else None.

    Stacked layers are no side. Heads and their dimensions are one side together. A convolution's
    window has no name: it belongs to the inputs.
    """
    inner = [i for i, axis in enumerate(axes) if axis != "layers"]
    if len(inner) < 2:
        return None
    split = matrix_split(tuple(axes[i] for i in inner))
    sides = tuple(inner[:split]), tuple(inner[split:])
    large = all(math.prod(shape[i] for i in side) >= factor_from for side in sides)
    return sides if large else None


def matrix_split(axes: tuple[str | None, ...]) -> int:
    """How many axes of a matrix are its inputs; `axes` are without the layers'."""
    # an attention's output matrix takes heads and head_dim in, every other one its first axis
    return len(axes) - 1 if axes[-1] == "embed" else 1


def _averaged(p: Array, over: tuple[int, ...]) -> Array:
    return jnp.zeros([1 if i in over else size for i, size in enumerate(p.shape)])


def _mix(decay: Array, old: Array, new: Array) -> Array:
    return decay * old + (1 - decay) * new


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    return x.mean(axes, keepdims=True)
