"""FLOPs counted on the traced step against the models' formulas."""

import functools

import jax
import jax.numpy as jnp
import pytest

from configs import debug
from rt2.models import flops as formulas
from rt2.plan import flops
from rt2.plan.programs import make_setup, train_program


def step_flops(variant, remat):
    """(counted on a training step, three times the forward pass by formula)."""
    config = debug.get_config()
    config.model.variant, config.model.remat = variant, remat
    config.optimizer.name = "adafactor"  # muon multiplies matrices
    setup = make_setup(config, jax.sharding.AbstractMesh((1, 1, 1), ("data", "fsdp", "tensor")))
    program = train_program(setup)
    lengths = config.history, config.prefix_length, config.target_length
    forward = config.batch_size * formulas.forward(setup.model, *lengths)
    head = 2 * config.batch_size * config.target_length * head_size(setup.model)
    return flops.counted(program.function, *program.arguments), forward, head


def head_size(model):
    name = "text/head" if "text/head" in model.shapes else "text/embedding"
    return model.shapes[name].size


@pytest.mark.parametrize("variant", ["debug", "palme_debug", "palix_55b"])
def test_a_step_is_three_forward_passes_and_the_head_s_recomputation(variant):
    counted, forward, head = step_flops(variant, "none")
    # an image has no gradient
    assert counted == pytest.approx(3 * forward + head, rel=0.02)


def test_remat_adds_less_than_a_forward_pass():
    counted, forward, head = step_flops("palix_55b", "full")
    assert 3.5 * forward < counted < 4 * forward + head


def test_scans_count_by_length_and_conditionals_by_their_largest_branch():
    a = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    once = 2 * 8**3

    def loop(x):
        def body(x, _):
            return jax.lax.cond(x[0, 0] > 0, lambda: x @ x @ x, lambda: x @ x), None

        return jax.lax.scan(body, x, None, length=7)[0]

    assert flops.counted(jax.jit(loop), a) == 7 * 2 * once
    assert flops.counted(jax.jit(jax.checkpoint(lambda x: x @ x)), a) == once
    many = jax.ShapeDtypeStruct((3, 8, 8), jnp.float32)
    assert flops.counted(jax.jit(jax.vmap(lambda x: x @ x)), many) == 3 * once


def test_a_convolution_counts_its_window():
    image = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 5), jnp.float32)
    convolve = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(2, 2),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    assert flops.counted(jax.jit(convolve), image, kernel) == 2 * (2 * 8 * 8 * 5) * (3 * 3 * 3)
