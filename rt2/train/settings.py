"""Model and step of a config: the same for a run, a plan and a golden file."""

from __future__ import annotations

import ml_collections

from rt2.models import variants
from rt2.models.build import Model
from rt2.train.optimizer import frozen_paths, make_optimizer
from rt2.train.step import StepSettings


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
