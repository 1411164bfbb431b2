"""The formulas against the products in the traced program."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest

from rt2.models import flops, variants
from rt2.models.build import Model


def counted(jaxpr) -> int:
    """Operations of all matrix products and convolutions of a program, loops unrolled."""
    total = 0
    for equation in jaxpr.eqns:
        repeats = equation.params["length"] if equation.primitive.name == "scan" else 1
        out = equation.outvars[0].aval.shape if equation.outvars else ()
        if equation.primitive.name == "dot_general":
            (inner, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * math.prod(out) * math.prod(shape[i] for i in inner)
        if equation.primitive.name == "conv_general_dilated":
            total += 2 * math.prod(out) * math.prod(equation.invars[1].aval.shape[:3])
        for inner in jax.core.jaxprs_in_params(equation.params):
            total += repeats * counted(inner)
    return total


@pytest.mark.parametrize("variant", ["debug", "palix_55b", "paligemma_3b"])
def test_the_formula_counts_what_the_program_computes(variant):
    settings = dict(vocab=300, dtype="float32", remat="none", image_size=0)
    check(Model(variants.config(variant, **settings)))


def test_a_class_token_is_counted():
    config = variants.config("debug", vocab=300, dtype="float32", remat="none", image_size=0)
    tower = dataclasses.replace(config.vision, class_token=True)
    check(Model(dataclasses.replace(config, vision=tower)))


def check(model):
    rows, images, prefix, target = 3, 2, 20, 7
    size = model.config.vision.image_size
    shapes = (
        jax.ShapeDtypeStruct((rows, images, size, size, 3), jnp.uint8),
        jax.ShapeDtypeStruct((rows, prefix), jnp.int32),
        jax.ShapeDtypeStruct((rows, target), jnp.int32),
    )
    program = jax.make_jaxpr(lambda params, *batch: model.module(params)(*batch))
    traced = counted(program(model.shapes, *shapes).jaxpr)
    assert traced == rows * flops.forward(model, images, prefix, target)
