"""Narrow weights: matrices as int8 with scales, or as bfloat16, and back.

Narrow parameters are a flat dict as `Params` is. A matrix keeps its path and shape; where it is
int8, "PATH:scale" has one float16 for every GROUP neighbours along an axis. Programs take narrow
parameters and widen them first. XLA holds the wide ones while it computes: files, transfers and
what lies in memory between calls shrink, the peak of a call and its time on a CPU do not.

Rounding every value to the nearest costs a small model many action tokens (experiments/bundle). So
the rows of a matrix are rounded one after the other, and the error of each is made up for in those
that are still to come (GPTQ: Frantar et al. 2023, sections 3.2 and 3.3). What counts as an error is
told by the Gram matrices of gradients of the log-probability of replies: the Fisher information,
summed over a matrix's outputs. It needs no look into the layers, and sees how far each input
matters to the reply.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from rt2.models.build import SCALE, Model, Params

MATRICES = ("kernel", "embedding", "head")  # last names of paths; the rest is small and stays
GROUP = 16  # values with one scale: 9 bits a value
LARGEST = 127
FACTORS = np.arange(85, 104, dtype=np.float32) / 100  # of the scale of the widest value, tried
DAMPING = 1e-2  # of the mean of a Gram matrix's diagonal, added to it

Array = jax.Array
Grams = dict[str, np.ndarray]
"""float32 [layers, inputs, inputs] of every matrix."""


@dataclasses.dataclass(frozen=True)
class View:
    """A parameter as [layers, inputs, outputs], its last axis in groups of `group`."""

    shape: tuple[int, ...]
    layers: int
    outputs: int
    by_row: bool  # a table of one row a token, whose outputs come first
    group: int

    def matrix(self, array: Array) -> Array:
        """[layers, inputs, outputs]."""
        if self.by_row:
            return array.T[None]
        return array.reshape(self.layers, -1, self.outputs)

    def array(self, matrix_LxIxO: Array) -> Array:
        """What `matrix` was given; scales [L, I, O / group] get the axes of their values."""
        if self.by_row:
            return matrix_LxIxO[0].T
        return matrix_LxIxO.reshape(*self.shape[:-1], -1)


def views(model: Model) -> dict[str, View]:
    """The matrices of a model, by their paths."""
    found = {}
    for path, shape in model.shapes.items():
        if path.rsplit("/", 1)[-1] not in MATRICES:
            continue
        axes, by_row = model.axes[path], model.axes[path][0] == "vocab"
        layers = shape.shape[0] if axes[0] == "layers" else 1
        last = shape.shape[0 if by_row else -1]
        heads = shape.shape[-2] if axes[-1] == "head_dim" else 1
        group = max(n for n in range(1, GROUP + 1) if last % n == 0)
        found[path] = View(shape.shape, layers, heads * last, by_row, group)
    return found


def bf16(model: Model, params: Params) -> Params:
    """`params` with its matrices as bfloat16."""
    return {**params, **{path: params[path].astype(jnp.bfloat16) for path in views(model)}}


def int8(model: Model, params: Params, grams: Grams) -> Params:
    """`params` with its matrices as int8 and their scales; bfloat16 where the groups are small."""
    narrow = dict(params)
    for path, view in views(model).items():
        if view.group < GROUP // 2:
            narrow[path] = params[path].astype(jnp.bfloat16)
            continue
        layers = zip(grams[path], view.matrix(params[path]), strict=True)
        made = [_ordered(gram, matrix, view.group) for gram, matrix in layers]
        values, scales = (jnp.stack(each) for each in zip(*made, strict=True))
        narrow[path], narrow[path + SCALE] = view.array(values), view.array(scales)
    return narrow


def widen(narrow: dict[str, Array | list[Array]]) -> dict[str, Array | list[Array]]:
    """float32 parameters; for use inside jit. Layers may be apart (`Model.apart`)."""
    return {
        path: jax.tree.map(_wide, values, narrow[path + SCALE])
        if path + SCALE in narrow
        else jax.tree.map(_wide, values)
        for path, values in narrow.items()
        if not path.endswith(SCALE)
    }


def gram(model: Model, gradients: Params) -> dict[str, Array]:
    """What one reply's gradients add to the Gram matrices."""
    found = {}
    for path, view in views(model).items():
        matrix = view.matrix(gradients[path])
        found[path] = jnp.einsum("lio,ljo->lij", matrix, matrix)
    return found


def _wide(values: Array, scale: Array | None = None) -> Array:
    values = values.astype(jnp.float32)
    if scale is None:
        return values
    for axis, (size, groups) in enumerate(zip(values.shape, scale.shape, strict=True)):
        if size != groups:
            scale = jnp.repeat(scale, size // groups, axis)
    return values * scale.astype(jnp.float32)


def _ordered(gram_IxI: np.ndarray, matrix_IxO: Array, group: int) -> tuple[Array, Array]:
    """int8 [I, O] and float16 [I, O / group], the rows that matter most rounded first."""
    order = np.argsort(-np.diag(gram_IxI), kind="stable")
    feed = _feed(gram_IxI[order][:, order])
    values, scales = _rounded(matrix_IxO[order], feed, group)
    back = np.argsort(order)
    return values[back], scales[back]


def _feed(gram_IxI: np.ndarray) -> np.ndarray:
    """float32 [I, I]: which part of row i's error is taken from row j > i."""
    mean = np.trace(gram_IxI, dtype=np.float64) / len(gram_IxI)
    damped = gram_IxI.astype(np.float64) + (DAMPING * mean or 1.0) * np.eye(len(gram_IxI))
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    return np.triu(upper / np.diag(upper)[:, None], 1).astype(np.float32)


@functools.partial(jax.jit, static_argnames="group")
def _rounded(matrix_IxO: Array, feed_IxI: Array, group: int) -> tuple[Array, Array]:
    def row(matrix: Array, inputs: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        i, feed = inputs
        groups = matrix[i].reshape(-1, group)
        scale = best_scale(groups)[:, None]
        values = nearest(groups, scale)
        matrix = matrix - feed[:, None] * (groups - values * scale).reshape(-1)
        return matrix, (values.reshape(-1).astype(jnp.int8), scale[:, 0].astype(jnp.float16))

    rows = jnp.arange(len(matrix_IxO))
    return jax.lax.scan(row, matrix_IxO, (rows, feed_IxI))[1]


def best_scale(groups_NxG: Array) -> Array:
    """float32 [N], float16's values: the scales that round with the least squared error."""
    widest = jnp.abs(groups_NxG).max(1) / LARGEST
    tried = (FACTORS[:, None] * widest).astype(jnp.float16).astype(jnp.float32)[..., None]
    tried = jnp.where(tried > 0, tried, 1.0)
    errors = jnp.square(nearest(groups_NxG, tried) * tried - groups_NxG).sum(-1)
    return jnp.take_along_axis(tried[..., 0], errors.argmin(0)[None], 0)[0]


def nearest(groups: Array, scale: Array) -> Array:
    """Whole numbers, in float32, which times `scale` are nearest to the values."""
    return jnp.clip(jnp.round(groups / scale), -LARGEST, LARGEST)
