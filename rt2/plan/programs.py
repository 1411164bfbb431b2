"""The programs of a config as the trainer and the policy run them, without data and arrays.

Sizes that a run learns from its data (pieces of the tokenizer, sources) come from the config.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from jax.sharding import Mesh

from rt2.inference import decode
from rt2.models import variants
from rt2.models.build import Model
from rt2.preprocess import image_count
from rt2.train import sharding
from rt2.train.checkpoint import abstract
from rt2.train.settings import make_model, make_settings, make_step
from rt2.train.step import (
    StepSettings,
    Tokens,
    TrainState,
    init_state,
    token_sums,
)

ACTION_SLOTS, ACTION_BINS = 8, 256


@dataclasses.dataclass(frozen=True)
class Setup:
    """A config on a mesh: abstract state and batch, each leaf with its sharding."""

    config: ml_collections.ConfigDict
    mesh: Mesh
    settings: StepSettings
    state: TrainState
    batch: dict[str, jax.ShapeDtypeStruct]

    @property
    def model(self) -> Model:
        """The model of the config."""
        return self.settings.model


@dataclasses.dataclass(frozen=True)
class Program:
    """A jitted function with the abstract arguments to lower it for."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


def make_setup(config: ml_collections.ConfigDict, mesh: Mesh) -> Setup:
    """The setup of `config` on `mesh`, which may be abstract; raises UserError where they clash."""
    sharding.check_batch(config.batch_size, mesh, config.accumulate)
    model = make_model(config, config.tokenizer.vocab_size)
    settings = make_settings(config, model, max(len(config.sources), 1))
    make = functools.partial(init_state, settings)
    shapes, placed = sharding.lay_out(make, model, config.sharding, mesh)
    return Setup(config, mesh, settings, abstract(shapes, placed), abstract_batch(config, mesh))


def abstract_batch(config: ml_collections.ConfigDict, mesh: Mesh) -> dict[str, Any]:
    """A global batch as `rt2.train.step.Batch` describes it, spread over the mesh."""
    rows = config.batch_size
    side = variants.vision(config.model.variant, config.model.image_size).image_size
    shapes = {
        "image": ((rows, image_count(config.history, config.cameras), side, side, 3), jnp.uint8),
        "has_image": ((rows,), jnp.bool_),
        "prefix": ((rows, config.prefix_length), jnp.int32),
        "target": ((rows, config.target_length), jnp.int32),
        "source": ((rows,), jnp.int32),
    }
    where = sharding.batch_sharding(mesh)
    return {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=where)
        for name, (shape, dtype) in shapes.items()
    }


def train_program(setup: Setup) -> Program:
    """The trainer's step, with its donated state."""
    placed = jax.tree.map(lambda x: x.sharding, setup.state)
    step = make_step(setup.settings, placed, setup.mesh)
    return Program("train", step, (setup.state, setup.batch))


def decode_program(setup: Setup) -> Program:
    """An action for every row of a batch, as the policy decodes it."""

    def act(params, image, prefix, table):
        module = setup.model.module(params)
        return decode.actions(module, module.encode(image, prefix), table)

    table = jax.ShapeDtypeStruct(
        (ACTION_SLOTS, ACTION_BINS), jnp.int32, sharding=sharding.replicated(setup.mesh)
    )
    batch = setup.batch
    return Program(
        "decode", jax.jit(act), (setup.state.params, batch["image"], batch["prefix"], table)
    )


def start_program(setup: Setup) -> Program:
    """A fresh state, drawn where it lies."""
    placed = jax.tree.map(lambda x: x.sharding, setup.state)
    key = jax.eval_shape(lambda: jax.random.key(0))
    key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=sharding.replicated(setup.mesh))
    make = jax.jit(functools.partial(init_state, setup.settings), out_shardings=placed)
    return Program("start", make, (key,))


def entropy_program(setup: Setup) -> Program:
    """The cross-entropy of a batch and its gradients, given the states before the head."""
    model, sources = setup.model, setup.settings.sources
    target, source = setup.batch["target"], setup.batch["source"]
    width, dtype = model.config.text.width, jnp.dtype(model.config.dtype)
    hidden = jax.ShapeDtypeStruct((*target.shape, width), dtype, sharding=target.sharding)
    table = "text/head" if "text/head" in model.shapes else "text/embedding"

    def mean(trained, hidden, rest, target, source):
        module = model.module({**rest, **trained})
        source = jnp.broadcast_to(source[:, None], target.shape)
        sums = token_sums(module.logits, Tokens(hidden, target, source), sources)
        return sums["entropy"].sum() / sums["tokens"].sum()

    params = dict(setup.state.params)
    trained = {table: params.pop(table)}
    placed = jax.tree.map(lambda x: x.sharding, (trained, hidden))
    gradients = jax.jit(jax.grad(mean, argnums=(0, 1)), out_shardings=placed)
    return Program("entropy", gradients, (trained, hidden, params, target, source))


PROGRAMS = {
    "train": train_program,
    "decode": decode_program,
    "start": start_program,
    "entropy": entropy_program,
}
