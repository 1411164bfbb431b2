"""Held-out examples, kept in the workdir for whoever makes the weights narrow."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import jax
import numpy as np

from rt2.evaluate.actions import observation
from rt2.inference import examples
from rt2.preprocess import Preprocess
from rt2.train.evaluation import Sample
from rt2.train.sources import Source


def keep(
    workdir: pathlib.Path, held_out: Mapping[str, Source], preprocess: Preprocess, count: int
) -> None:
    """Writes the inputs of `count` examples of each robot data set that is held out; 0 is none."""
    robots = {source.spec: source for source in held_out.values() if source.kind == "robot"}
    if count and robots and jax.process_index() == 0:
        rows = {name: inputs(source, preprocess, count) for name, source in robots.items()}
        examples.write(workdir, rows)


def inputs(source: Source, preprocess: Preprocess, count: int) -> examples.Rows:
    """What the model would read of `count` steps, spread evenly over the source."""
    sample, images, prefixes = Sample(source.examples, count), [], []
    for i in range(len(sample)):
        seen = observation(sample[i], source.spec, preprocess.cameras)
        state = preprocess.state(source.spec, seen.get("state"))
        images.append(preprocess.image_stack(preprocess.frames(seen["image"])))
        prefixes.append(preprocess.action_prefix(seen["instruction"], state))
    return examples.Rows(np.stack(images), np.stack(prefixes))
