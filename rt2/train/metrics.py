"""Where figures go: a JSONL file, TensorBoard and the terminal."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Callable, Mapping

import jax
import numpy as np
import tensorboardX
import tqdm

from rt2.data.mixture import Mixture


class MetricWriter:
    """Rows of figures by step, to `workdir`/metrics.jsonl and TensorBoard events beside it.

    A run that resumes at a step first drops the rows after it, so that no step stands twice.
    """

    def __init__(self, workdir: pathlib.Path, start_step: int, num_steps: int):
        self._path = workdir / "metrics.jsonl"
        kept = []
        if self._path.exists():
            lines = self._path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if _step(line) <= start_step]
        self._path.write_text("".join(kept))
        self._file = self._path.open("a")
        self._board = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"), purge_step=start_step + 1
        )
        self._bar = tqdm.tqdm(
            total=num_steps, initial=start_step, unit="step", disable=not sys.stderr.isatty()
        )

    def write(self, step: int, figures: Mapping[str, float | None]) -> None:
        """One row; figures that are None are left out."""
        row = {name: _plain(value) for name, value in figures.items() if value is not None}
        self._file.write(json.dumps({"step": step, **row}) + "\n")
        self._file.flush()
        for name, value in row.items():
            self._board.add_scalar(name, value, step)
        if "loss" in row:
            self._bar.set_postfix(loss=f"{row['loss']:.3f}")

    def advance(self, step: int) -> None:
        """Moves the progress bar."""
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Closes the files."""
        self._bar.close()
        self._board.close()
        self._file.close()


class NoMetrics:
    """In place of a MetricWriter on the processes that write nothing."""

    def write(self, step: int, figures: Mapping[str, float | None]) -> None:
        """Nothing."""

    def advance(self, step: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class LateRow:
    """A row that is written later, so that nothing waits for a step while the next could start."""

    def __init__(self, metrics: MetricWriter | NoMetrics):
        self._metrics, self._kept = metrics, None

    def keep(self, step: int, figures: Callable[[], Mapping[str, float | None]]) -> None:
        """Remembers to call `figures` for the row of `step`."""
        self._kept = step, figures

    def write(self) -> None:
        """Writes the row that was kept, if there is one."""
        if self._kept:
            step, figures = self._kept
            self._kept = None
            self._metrics.write(step, figures())


def open_metrics(workdir: pathlib.Path, step: int, num_steps: int) -> MetricWriter | NoMetrics:
    """Process 0 of a run writes its figures, the others do not."""
    return NoMetrics() if jax.process_index() else MetricWriter(workdir, step, num_steps)


def _step(line: str) -> int:
    try:
        return json.loads(line)["step"]
    except ValueError:  # the row that a killed run was writing
        return sys.maxsize


def _plain(value: float) -> float | int:
    value = np.asarray(value).item()
    return round(value, 6) if isinstance(value, float) else value


def step_figures(
    metrics: Mapping[str, np.ndarray], names: tuple[str, ...]
) -> dict[str, float | None]:
    """Figures of one step from its metrics: totals, and loss and token accuracy by source.

    Those of a source without a row in the batch are None.
    """
    figures = {
        "loss": metrics["loss"],
        "grad_norm": metrics["grad_norm"],
        "skipped": int(metrics["skipped"]),
    }
    for i, name in enumerate(names):
        tokens = metrics["tokens"][i]
        figures[f"{name}/loss"] = metrics["entropy"][i] / tokens if tokens else None
        figures[f"{name}/token_accuracy"] = metrics["correct"][i] / tokens if tokens else None
    return figures


def progress_figures(mixture: Mixture, step: int) -> dict[str, float]:
    """How many examples of every source have been trained on after `step`, and how many epochs."""
    figures = {}
    for name, progress in mixture.progress(step).items():
        length = mixture.lengths[name]
        drawn = progress.epoch * length + progress.examples
        figures[f"{name}/examples"] = drawn
        figures[f"{name}/epochs"] = drawn / length
    return figures
