"""Writing checkpoints and resuming from them."""

from __future__ import annotations

import logging
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from rt2 import checkpoint
from rt2.train.differences import differences, short
from rt2.train.step import TrainState, exchange_average

log = logging.getLogger(__name__)


class CheckpointWriter:
    """Saves to `workdir`/checkpoints in the background; a step is there whole or not at all."""

    def __init__(self, workdir: pathlib.Path, keep: int):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=True, cleanup_tmp_directories=True
        )
        self.folder = workdir.absolute() / "checkpoints"
        self._manager = ocp.CheckpointManager(
            self.folder, options=options, item_names=("params", "state", "assets", "manifest")
        )

    def latest(self) -> int | None:
        """The newest committed step."""
        return self._manager.latest_step()

    def save(self, state: TrainState, assets: dict[str, Any]) -> None:
        """Starts to save `state` at its step; the manifest of fingerprints is part of the item.

        The item `params` is what a policy acts with: the moving average, where there is one.
        """
        step = int(state.step)
        if step == self.latest():
            return
        state = exchange_average(state)
        rest = optimizer_item(state)
        manifest = {
            "params": checkpoint.fingerprint(state.params),
            "state": checkpoint.fingerprint(rest),
        }
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params),
                state=ocp.args.StandardSave(rest),
                assets=ocp.args.JsonSave(assets),
                manifest=ocp.args.JsonSave(manifest),
            ),
        )

    def close(self) -> None:
        """Waits for the last save."""
        self._manager.wait_until_finished()
        self._manager.close()

    def restore(self, like: TrainState, assets: dict[str, Any]) -> TrainState | None:
        """The newest step that verifies, in the shapes and shardings of `like`; None if none.

        A damaged step is reported and the one before it is tried. Raises CheckpointError where the
        checkpoint is of another model, tokenizer, action codec or data.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        like = exchange_average(like)
        for step in steps:
            folder = self.folder / str(step)
            try:
                check_assets(folder, checkpoint.read_json(folder, "assets"), assets)
                params = checkpoint.read_tree(folder, "params", like.params)
                rest = checkpoint.read_tree(folder, "state", optimizer_item(like))
            except checkpoint.DamagedCheckpointError as error:
                log.error("%s. Trying the step before it.", error)
                continue
            return exchange_average(TrainState(params=params, **{"averages": {}, **rest}))
        if steps:
            raise checkpoint.CheckpointError(
                f"{self.folder}: none of the steps {steps} is intact. Move the folder away to "
                "start anew"
            )
        return None


def optimizer_item(state: TrainState) -> dict[str, Any]:
    """What the item `state` holds: everything but the parameters."""
    averages = {"averages": state.averages} if state.averages else {}
    return {"step": state.step, "optimizer": state.optimizer, **averages}


def check_assets(place: Any, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises CheckpointError where a resumed run would mean something else than the saved one."""
    for key in ("model", "preprocess", "data"):
        rows = [
            f"{path}: checkpoint {short(old)}, config {short(new)}"
            for path, old, new in differences(saved[key], wanted[key], key)
        ]
        if rows:
            raise checkpoint.CheckpointError(
                f"{place}: the checkpoint does not continue with this config:\n  "
                + "\n  ".join(rows[:8])
                + "\nUse the config that began the run, or another --workdir"
            )


def abstract(state: Any, shardings: Any) -> Any:
    """`state` as jax.ShapeDtypeStruct with shardings, the target of a restore."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings
    )
