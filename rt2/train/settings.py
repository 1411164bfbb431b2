"""Model and step of a config: the same for a run, a plan and a golden file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh

from rt2.models import variants
from rt2.models.build import Model
from rt2.train import sharding
from rt2.train.optimizer import frozen_paths, make_optimizer
from rt2.train.step import StepSettings, TrainState, train_step

# Of XLA's compilers, by platform.
OPTIONS: dict[str, dict[str, Any]] = {
    # by default what can run early does, recomputation too: remat would save nothing
    "cpu": {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"},
    # Without the first two (v4, the others too on v5p) the compiler turns a gather over all three
    # sides of a torus into a padded all-reduce: twice the bytes, and nothing runs beside it.
    "tpu": {
        "xla_enable_async_all_gather": True,
        "xla_tpu_prefer_async_allgather_to_allreduce": True,
        "xla_tpu_enable_async_collective_fusion": True,
        "xla_tpu_enable_async_collective_fusion_fuse_all_gather": True,
        "xla_tpu_enable_async_collective_fusion_multiple_steps": True,
        "xla_tpu_overlap_compute_collective_tc": True,
    },
}


def make_model(config: ml_collections.ConfigDict, vocab: int) -> Model:
    """The configured variant for a tokenizer of `vocab` pieces."""
    return Model(
        variants.config(
            config.model.variant,
            vocab=vocab,
            dtype=config.model.dtype,
            remat=config.model.remat,
            image_size=config.model.image_size,
        )
    )


def make_settings(config: ml_collections.ConfigDict, model: Model, sources: int) -> StepSettings:
    """What the config's step needs beside its state, for a mixture of `sources`."""
    return StepSettings(
        model=model,
        optimizer=make_optimizer(config.optimizer, config.num_steps, model),
        sources=sources,
        seed=config.seed,
        brightness=config.augment.brightness,
        contrast=config.augment.contrast,
        frozen=frozen_paths(config, model),
        accumulate=config.accumulate,
        skip_above=config.optimizer.skip_above,
        ema=config.ema,
    )


def make_step(settings: StepSettings, placed: TrainState, mesh: Mesh) -> Callable[..., Any]:
    """The jitted step (state, batch) -> (state, metrics), which takes over the memory of its state.

    `placed`: the shardings of the state.
    """
    return jax.jit(
        functools.partial(train_step, settings),
        donate_argnums=0,
        out_shardings=(placed, sharding.replicated(mesh)),
        compiler_options=OPTIONS.get(sharding.platform(mesh)),
    )
