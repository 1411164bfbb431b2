"""The training loop: open the data, restore or start, then one pure step after another."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rt2 import checkpoint
from rt2.data.mixture import Mixture
from rt2.inference.policy import Policy, describe
from rt2.preprocess import Preprocess
from rt2.train import evaluation, init_from, inputs, keeping, sharding, start
from rt2.train.checkpoint import CheckpointWriter, abstract
from rt2.train.clock import Clock, example_flops, peak_flops
from rt2.train.line import ALONE, Line
from rt2.train.metrics import LateRow, open_metrics, progress_figures, step_figures
from rt2.train.preemption import Preempted, Preemption
from rt2.train.settings import make_model, make_settings, make_step
from rt2.train.sources import Source, open_sources
from rt2.train.step import (
    StepSettings,
    TrainState,
    exchange_average,
    init_state,
    start_from,
)
from rt2.train.trace import Trace

PREFETCH = 4  # batches read ahead
LENGTH_CHECKS = 200_000  # web rows of a source whose length is checked before the first step

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Run:
    """What a config and its data come to, before any array exists."""

    config: ml_collections.ConfigDict
    mesh: jax.sharding.Mesh
    mixture: Mixture
    held_out: Mapping[str, Source]
    settings: StepSettings
    preprocess: Preprocess
    assets: dict[str, Any]


def train(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, line: Line = ALONE
) -> TrainState:
    """Trains as `config` says; continues from the newest checkpoint of `workdir`, if it has one.

    Returns the final state. Everything that can be refused is refused before the first step. Raises
    Preempted where the run was asked to end and has saved its step. `line` joins the processes.
    """
    run = prepare(config, workdir)
    line.compare({"assets": brief(run.assets)})
    keeping.keep(workdir, run.held_out, run.preprocess, config.keep_examples)
    with jax.set_mesh(run.mesh):
        writer = CheckpointWriter(workdir, config.keep_checkpoints)
        state, shardings = restore_or_start(run, writer)
        step_fn = make_step(run.settings, shardings, run.mesh)
        first = int(state.step)
        line.compare({"step of the checkpoint": first})
        batches = batches_from(run.mixture, first, run.mesh, config.reader_threads)
        metrics = open_metrics(workdir, first, config.num_steps)
        preemption, ends = Preemption(), False
        late = LateRow(metrics)
        clock = make_clock(run)
        trace = Trace(workdir, *config.profile)
        for step in range(first + 1, config.num_steps + 1):
            with clock.waiting():
                batch, order = next(batches)
            trace.before(step)
            state, measured = step_fn(state, batch)
            trace.after(step, state)
            late.write()  # the row of an earlier step, while the devices work on this one
            last = step == config.num_steps
            if last or step % config.log_interval == 0:
                late.keep(step, functools.partial(row, run, clock, step, measured, order))
            if last or (config.eval_interval and step % config.eval_interval == 0):
                late.write()
                metrics.write(step, evaluate(run, state))
                clock.restart(step)
            ends = not last and preemption.reached(step)
            if last or ends or step % config.save_interval == 0:
                late.write()
                writer.save(state, run.assets | {"step": step})
            metrics.advance(step)
            if ends:
                break
        writer.close()
        metrics.close()
    if ends:
        raise Preempted(f"asked to end: step {step} is saved; start again to go on")
    return state


def row(run: Run, clock: Clock, step: int, measured: Any, order: jax.Array) -> dict[str, Any]:
    """The figures of a step; waits until its devices are done."""
    figures = step_figures(jax.device_get(measured), run.mixture.names)
    figures |= progress_figures(run.mixture, step) | clock.figures(step)
    return figures | {"batch_hash": int(order_hash(order))}


def make_clock(run: Run) -> Clock:
    """A clock that knows how much an example computes and how much the devices can."""
    devices = list(run.mesh.devices.flat)
    computed = example_flops(run.settings, run.preprocess)
    return Clock(run.config.batch_size, computed, peak_flops(devices))


def prepare(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Run:
    """Opens the data and settles everything that the config leaves to them."""
    mesh = sharding.make_mesh(config.mesh.to_dict())
    sharding.check_batch(config.batch_size, mesh, config.accumulate)
    sources = open_sources(config, "sources")
    held_out = open_sources(config, "eval_sources")
    preprocess = start.make_preprocess(config, sources, workdir)
    inputs.check_lengths(sources, preprocess, LENGTH_CHECKS)
    model = make_model(config, preprocess.tokenizer.size)
    mixture = inputs.make_mixture(config, sources, preprocess)
    settings = make_settings(config, model, len(mixture.names))
    assets = as_json(
        format=checkpoint.FORMAT,
        config=config.to_dict(),
        model=model.to_json(),
        preprocess=preprocess.to_json(),
        data=inputs.data_identity(config, sources, mixture),
        eval={name: config.eval_sources[name].to_dict() for name in held_out},
    )
    for name, array in mixture.rows[0].items():
        log.info("a row's %s: %s@%s", name, array.shape, array.dtype)
    return Run(config, mesh, mixture, held_out, settings, preprocess, assets)


def evaluate(run: Run, state: TrainState) -> dict[str, float]:
    """Figures of the policy that a checkpoint of `state` would give, on the held-out sources."""
    metadata = describe(run.preprocess, run.assets | {"step": int(state.step)})
    params = exchange_average(state).params
    policy = Policy(run.settings.model, params, run.preprocess, metadata)
    figures = evaluation.evaluate(policy, run.held_out, run.config.eval_rows)
    log.info("step %d: %s", state.step, {k: round(float(v), 4) for k, v in figures.items()})
    return figures


def as_json(**items: Any) -> dict[str, Any]:
    """`items` as they read back from a JSON file: tuples have become lists."""
    return json.loads(json.dumps(items))


def brief(value: Any) -> Any:
    """`value` with long texts (the tokenizer) as their digests."""
    if isinstance(value, dict):
        return {key: brief(item) for key, item in value.items()}
    if isinstance(value, str) and len(value) > 200:
        return hashlib.sha256(value.encode()).hexdigest()
    return value


def restore_or_start(run: Run, writer: CheckpointWriter) -> tuple[TrainState, TrainState]:
    """The state to go on from, and its shardings. No array exists before its sharding is known."""
    config, settings = run.config, run.settings
    make = functools.partial(init_state, settings)
    shapes, shardings = sharding.lay_out(make, settings.model, config.sharding, run.mesh)
    state = writer.restore(abstract(shapes, shardings), run.assets)
    if state is not None:
        log.info("resumed at step %d", state.step)
        return state, shardings
    log.info("%s model: %.2f M parameters", config.model.variant, settings.model.size / 1e6)
    loaded = init_from.load_params(
        config.init_from, settings.model, shardings.params, run.preprocess
    )
    init_from.check_frozen(settings.frozen, settings.model, loaded)

    def rest(state: TrainState) -> TrainState:
        """What was not loaded: a model that was is never in memory twice."""
        return state._replace(params={k: v for k, v in state.params.items() if k not in loaded})

    draw = jax.jit(lambda key: rest(make(key)), out_shardings=rest(shardings))
    state = draw(jax.random.key(config.seed))
    return start_from(state, loaded), shardings


def batches_from(
    mixture: Mixture, step: int, mesh: jax.sharding.Mesh, threads: int
) -> Iterator[tuple[dict[str, jax.Array], jax.Array]]:
    """Global device batches from `step` on, each with uint32 [B] for `order_hash`.

    This process reads the rows of its own devices alone.
    """
    size = mixture.batch_size
    rows = sharding.rows_here(mesh, size)
    for batch in mixture.iterate(step, rows, threads, PREFETCH):
        batch["order"] = example_hashes(rows, batch["source"], batch.pop("example_index"))
        placed = {
            name: sharding.place_rows(mesh, rows, array, size) for name, array in batch.items()
        }
        yield placed, placed.pop("order")


def example_hashes(rows: np.ndarray, source: np.ndarray, index: np.ndarray) -> np.ndarray:
    """A number uint32 [n] for every example and the row of the global batch that it stands in."""
    mixed = (rows.astype(np.uint64) << np.uint64(48)) ^ (source.astype(np.uint64) << np.uint64(32))
    mixed ^= index.astype(np.uint64)
    for multiplier in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):  # the finaliser of splitmix64
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(multiplier)
    return (mixed >> np.uint64(32)).astype(np.uint32)


@jax.jit
def order_hash(order: jax.Array) -> jax.Array:
    """One uint32 that tells which examples the global batch held, in which rows."""
    return jnp.sum(order, dtype=jnp.uint32)
