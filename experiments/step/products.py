"""The profile of a step by its products: how fast jax itself runs each of them alone."""

from __future__ import annotations

import collections
import math
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
from sizes import Size

from rt2.plan import hlo

SECONDS = 0.15  # spent on a product
# (contracting, batch) axes of both sides, as jax.lax.dot_general takes them
Axes = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]
PLAIN: Axes = (((1,), (0,)), ((), ()))
FORMS = {(1, 0): "A B", (1, 1): "A B^T", (0, 0): "A^T B"}  # by the axes that are summed over


def plain(size: Size) -> dict[str, float]:
    """GFLOP/s of A B on the shapes that most of the step's time goes to."""
    patches, text, vision = (size.image // size.patch) ** 2, size.text, size.vision
    positions = size.rows * (patches + size.prefix)
    shapes = {
        "vision mlp": (size.rows * (patches + 1), vision["width"], vision["mlp"]),
        "encoder mlp": (positions, text["width"], text["mlp"]),
        "encoder attention": (positions, text["width"], text["heads"] * text["head_dim"]),
        "head": (size.rows * size.target, text["width"], text["vocab"]),
    }
    return {
        name: 2e-9 * m * k * n / seconds((m, k), (k, n), PLAIN)
        for name, (m, k, n) in shapes.items()
    }


def own(text: str) -> dict[str, dict[str, float]]:
    """GFLOP and seconds of all products of a compiled step, one after another, by their form."""
    program = hlo.parse(text)
    counts: collections.Counter = collections.Counter()
    for line, computation, times in program.walk():
        if line.opcode == "dot":
            a, b = (_shape(program.computations[computation][side].type) for side in line.operands)
            counts[a, b, _axes(line.rest)] += times
    forms = collections.defaultdict(lambda: {"gflop": 0.0, "seconds": 0.0})
    for (a, b, axes), times in counts.items():
        (summed, other), (batch, _) = axes
        form = "attention" if batch else FORMS[summed[0], other[0]]
        free = math.prod(b) // math.prod(b[axis] for axis in (*other, *axes[1][1]))
        forms[form]["gflop"] += 2e-9 * math.prod(a) * free * times
        forms[form]["seconds"] += seconds(a, b, axes) * times
    return dict(forms)


def seconds(a: tuple[int, ...], b: tuple[int, ...], axes: Axes) -> float:
    """Median time of jax's own float32 product of these shapes."""
    product = jax.jit(lambda a, b: jax.lax.dot_general(a, b, axes))
    left, right = jnp.ones(a), jnp.ones(b)
    product(left, right).block_until_ready()
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < 5:
        began = time.perf_counter()
        product(left, right).block_until_ready()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def _axes(rest: str) -> Axes:
    sides = [
        [
            _numbers(found[1]) if (found := re.search(rf"{side}_{kind}_dims=(\S+)", rest)) else ()
            for side in ("lhs", "rhs")
        ]
        for kind in ("contracting", "batch")
    ]
    return (tuple(sides[0]), tuple(sides[1]))


def _shape(type_text: str) -> tuple[int, ...]:
    return _numbers(re.search(r"\[([\d,]*)\]", type_text)[1])


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in re.findall(r"\d+", text))
