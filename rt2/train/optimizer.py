"""Optimizers and learning-rate schedules, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import jax.numpy as jnp
import ml_collections
import optax
import optax.contrib

from rt2.errors import ConfigError
from rt2.models.build import Model
from rt2.train.adafactor import adafactor, matrix_split


def _constant(peak: float, warmup: int, steps: int) -> optax.Schedule:
    return lambda step: peak * jnp.minimum(1.0, (step + 1) / max(warmup, 1))


def _cosine(peak: float, warmup: int, steps: int) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(steps, warmup + 1), 0.0)


def _inverse_sqrt(peak: float, warmup: int, steps: int) -> optax.Schedule:
    def rate(step):
        scale = jnp.sqrt(max(warmup, 1) / jnp.maximum(step + 1, warmup))
        return peak * jnp.minimum(scale, (step + 1) / max(warmup, 1))

    return rate


SCHEDULES: dict[str, Callable[[float, int, int], optax.Schedule]] = {
    "constant": _constant,
    "cosine": _cosine,
    "inverse_sqrt": _inverse_sqrt,
}
OPTIMIZERS = ("adafactor", "adamw", "muon")


def make_schedule(config: ml_collections.ConfigDict, steps: int) -> optax.Schedule:
    """Learning rate of a step; `config` is config.optimizer."""
    if config.schedule not in SCHEDULES:
        raise ConfigError(f"schedule {config.schedule!r} is unknown; known: {sorted(SCHEDULES)}")
    return SCHEDULES[config.schedule](config.learning_rate, config.warmup_steps, steps)


def make_optimizer(
    config: ml_collections.ConfigDict, steps: int, model: Model
) -> optax.GradientTransformation:
    """The gradient transformation of config.optimizer.

    `adafactor` is T5X's (rt2/train/adafactor.py): its learning rate is relative to each parameter
    and not to be reused with adamw.
    `muon` orthogonalises the update of every matrix (Jordan et al. 2024), at a root mean square
    of 0.2 times the learning rate; embeddings, convolutions, norms and biases take adamw's update
    at `adamw_rate` times it.
    """
    schedule = make_schedule(config, steps)
    adam = {"b1": config.b1, "b2": config.b2}
    if config.name == "adafactor":
        update = adafactor(model, schedule)
    elif config.name == "adamw":
        update = optax.adamw(schedule, weight_decay=config.weight_decay, **adam)
    elif config.name == "muon":
        update = optax.contrib.muon(
            schedule,
            weight_decay=config.weight_decay,
            adam_b1=config.b1,
            adam_b2=config.b2,
            adam_learning_rate=lambda step: config.adamw_rate * schedule(step),
            muon_weight_dimension_numbers=lambda params: matrices(model, params),
            consistent_rms=0.2,
        )
    else:
        raise ConfigError(f"optimizer {config.name!r} is unknown; known: {OPTIMIZERS}")
    if config.clip_norm:
        return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)
    return update


def frozen_paths(config: ml_collections.ConfigDict, model: Model) -> tuple[str, ...]:
    """config.frozen; nothing where nothing was loaded, as from scratch all is trained.

    ConfigError for a prefix that no parameter's path begins with, or where nothing is left.
    """
    prefixes = tuple(config.frozen) if config.init_from else ()
    for prefix in prefixes:
        if not any(path.startswith(prefix) for path in model.shapes):
            raise ConfigError(
                f"config.frozen: no parameter's path begins with {prefix!r}; paths begin with "
                f"{', '.join(sorted({path.split('/')[0] for path in model.shapes}))}"
            )
    if all(path.startswith(prefixes) for path in model.shapes):
        raise ConfigError(f"config.frozen={prefixes} leaves nothing to train: shorten it")
    return prefixes


def matrices(
    model: Model, params: Iterable[str]
) -> dict[str, optax.contrib.MuonDimensionNumbers | None]:
    """Which axes of a parameter are the input and the output of a matrix; None if it is none."""
    return {path: _matrix(path, model.axes[path]) for path in params}


def _matrix(path: str, axes: tuple[str | None, ...]) -> optax.contrib.MuonDimensionNumbers | None:
    if not path.endswith("/kernel") or None in axes:  # a convolution's window has no name
        return None
    inner = [i for i, axis in enumerate(axes) if axis != "layers"]
    split = matrix_split(tuple(axes[i] for i in inner))
    return optax.contrib.MuonDimensionNumbers(tuple(inner[:split]), tuple(inner[split:]))
