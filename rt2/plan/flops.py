"""FLOPs of a program, counted on what jax traced: matrix products and convolutions by loop length.

A multiply and an add are two. XLA's own count takes the body of a loop once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr


def counted(function: Any, *arguments: Any) -> int:
    """FLOPs of a call of the jitted `function` over all devices.

    Of a conditional's branches the most expensive counts.
    """
    return _jaxpr_flops(function.trace(*arguments).jaxpr.jaxpr)


def _jaxpr_flops(jaxpr: Jaxpr) -> int:
    return sum(_equation_flops(equation) for equation in jaxpr.eqns)


def _equation_flops(equation: Any) -> int:
    name = equation.primitive.name
    if name == "dot_general":
        return _product_flops(equation)
    if name == "conv_general_dilated":
        return _convolution_flops(equation)
    inner = [_jaxpr_flops(jaxpr) for jaxpr in _inside(equation.params)]
    if name == "cond":
        return max(inner)
    return sum(inner) * (equation.params["length"] if name == "scan" else 1)


def _product_flops(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)


def _convolution_flops(equation: Any) -> int:
    kernel, numbers = equation.invars[1].aval, equation.params["dimension_numbers"]
    outputs = kernel.shape[numbers.rhs_spec[0]]
    return 2 * equation.outvars[0].aval.size * kernel.size // outputs


def _inside(parameters: dict[str, Any]) -> Iterator[Jaxpr]:
    for value in parameters.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(one, ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, Jaxpr):
                yield one
