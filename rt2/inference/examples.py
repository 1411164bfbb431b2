"""Kept examples: held-out inputs of a model beside its checkpoints, to calibrate and compare with.

The trainer writes them (`config.keep_examples`): images and questions as the model reads them, and
no actions, so that a workdir shows some of its data to whoever is given it.
"""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from rt2.checkpoint import CheckpointError

NAME = "examples.safetensors"


class Rows(NamedTuple):
    """Inputs of one data set: image uint8 [N, n, S, S, 3], prefix int32 [N, L]."""

    image: np.ndarray
    prefix: np.ndarray


def write(workdir: pathlib.Path, rows: dict[str, Rows]) -> None:
    """Writes the examples of every data set; the file is there whole or not at all."""
    arrays = {f"{part}/{name}": x for name, r in rows.items() for part, x in r._asdict().items()}
    part = workdir / f"{NAME}.part"
    part.write_bytes(safetensors.numpy.save(arrays))
    os.replace(part, workdir / NAME)


def beside(step_folder: pathlib.Path) -> dict[str, Rows] | None:
    """The examples of the workdir that a step's folder lies in; None where it has none.

    Raises CheckpointError where the file is damaged.
    """
    for folder in step_folder.parents[:2]:
        if (path := folder / NAME).is_file():
            try:
                arrays = safetensors.numpy.load_file(path)
            except safetensors.SafetensorError as error:
                raise CheckpointError(f"{path}: damaged ({error})") from error
            names = [name.removeprefix("prefix/") for name in arrays if name.startswith("prefix/")]
            return {n: Rows(*(arrays[f"{part}/{n}"] for part in Rows._fields)) for n in names}
    return None
