"""From the config's sources to batches of token rows."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections
import numpy as np

from rt2.actions import ActionCodec
from rt2.data import specs
from rt2.data.errors import DataError, nearest
from rt2.data.mixture import Mixture
from rt2.data.robot import RobotExamples
from rt2.data.shares import rows_from_shares
from rt2.data.vqa import WebExamples
from rt2.preprocess import Preprocess
from rt2.prompts import action_prompt
from rt2.train.source_rows import shares, training_rows

KINDS = ("robot", "web")
INSTRUCTION_WEIGHT = 20  # an instruction stands for many rows, a web text for one

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Source:
    """One configured source: its raw examples and, for robot data, the name of its spec."""

    name: str
    kind: str
    examples: Any
    spec: str


class RobotRows:
    """Robot examples as model rows: image, prefix, target."""

    def __init__(self, examples: RobotExamples, preprocess: Preprocess, codec: ActionCodec):
        self.examples, self.preprocess, self.codec = examples, preprocess, codec

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        example, preprocess = self.examples[i], self.preprocess
        return {
            "image": preprocess.image_stack(example.images),
            "prefix": preprocess.action_prefix(example.instruction),
            "target": preprocess.action_target(self.codec, example.action, example.terminate),
        }


class WebRows:
    """Web examples as model rows; the first accepted answer is the target."""

    def __init__(self, examples: WebExamples, preprocess: Preprocess):
        self.examples, self.preprocess = examples, preprocess

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        example, preprocess = self.examples[i], self.preprocess
        return {
            "image": preprocess.image_stack([example.image]),
            "prefix": preprocess.text_prefix(example.question),
            "target": preprocess.text_target(example.answers[0]),
        }


def open_sources(config: ml_collections.ConfigDict, which: str) -> dict[str, Source]:
    """The "sources" to train on (see `source_rows.training_rows`) or "eval_sources", opened."""
    opened = {}
    rows = training_rows(config) if which == "sources" else config.eval_sources
    for name, row in rows.items():
        if row.kind not in KINDS:
            raise DataError(f"config.{which}.{name}.kind={row.kind!r}: {nearest(row.kind, KINDS)}")
        if row.kind == "robot":
            spec = dataset_spec(config, row.spec)
            examples = RobotExamples(row.path, row.split, spec, config.history)
            _report(name, examples)
        else:
            examples = WebExamples(row.path, row.split or None)
        log.info("%s %s: %d rows from %s", which, name, len(examples), row.path)
        opened[name] = Source(name, row.kind, examples, row.spec)
    if which == "sources" and not opened:
        raise DataError("no source has a share: set --config.sources.NAME.share above 0")
    return opened


def dataset_spec(config: ml_collections.ConfigDict, name: str) -> specs.DatasetSpec:
    """The spec `name` of the config's own rows, or else of the shipped table."""
    if name in config.dataset_specs:
        return specs.from_config({"name": name, **config.dataset_specs[name].to_dict()})
    return specs.get(name)


def _report(name: str, examples: RobotExamples) -> None:
    for reason, count in examples.dropped.items():
        if count:
            log.info("%s: %d steps left out: %s", name, count, reason)
    for slot, odd in examples.warnings():
        log.warning("%s: action %s: %s", name, slot, odd)


def fit_codecs(sources: Mapping[str, Source]) -> dict[str, ActionCodec]:
    """An action codec for every robot data set, with bounds by its spec's rule."""
    codecs: dict[str, ActionCodec] = {}
    for source in sources.values():
        if source.kind != "robot" or source.spec in codecs:
            continue
        examples = source.examples
        codec = ActionCodec(examples.spec.action_spec, *examples.bounds())
        outside = codec.out_of_range(examples.actions)
        for i, slot in enumerate(codec.spec.continuous):
            if outside[i]:
                log.warning(
                    "%s: %d of %d values of %s lie outside [%.4g, %.4g] and train as the outer bin",
                    *(source.name, outside[i], len(examples), slot.name),
                    *(codec.low[i], codec.high[i]),
                )
        codecs[source.spec] = codec
    return codecs


def texts(source: Source, limit: int) -> Iterator[tuple[str, str]]:
    """(question, answer) of every instruction (the answer is empty) or of `limit` web rows."""
    if source.kind == "robot":
        for instruction in source.examples.instructions:
            yield action_prompt(instruction), ""
        return
    stride = -(-len(source.examples) // limit)
    for i in range(0, len(source.examples), stride):
        question, answers = source.examples.text(i)
        yield question, answers[0]


def corpus(sources: Mapping[str, Source], limit: int) -> Iterator[str]:
    """The text of the sources, for the tokenizer; instructions count for INSTRUCTION_WEIGHT.

    The frame of the robot question is always part of it, so that a model which has only read the
    web can be given actions later.
    """
    yield from [action_prompt("")] * INSTRUCTION_WEIGHT * 20
    for source in sources.values():
        weight = INSTRUCTION_WEIGHT if source.kind == "robot" else 1
        for question, answer in texts(source, limit):
            yield from [question, answer] * weight


def check_lengths(sources: Mapping[str, Source], preprocess: Preprocess, limit: int) -> None:
    """Raises TokenizerError, naming the text, where a row does not fit; `limit` as in `texts`."""
    for source in sources.values():
        for question, answer in texts(source, limit):
            preprocess.text_prefix(question)
            preprocess.text_target(answer)


def rows(source: Source, preprocess: Preprocess) -> RobotRows | WebRows:
    """The source as model rows."""
    if source.kind == "robot":
        return RobotRows(source.examples, preprocess, preprocess.codec(source.spec))
    return WebRows(source.examples, preprocess)


def make_mixture(
    config: ml_collections.ConfigDict, sources: Mapping[str, Source], preprocess: Preprocess
) -> Mixture:
    """Batches of the configured shares."""
    period = config.share_period
    lengths = {name: len(source.examples) for name, source in sources.items()}
    counts = rows_from_shares(shares(config, lengths), config.batch_size, period)
    log.info("rows of %s: %s", "a batch" if period == 1 else f"{period} batches", counts)
    mixed = {name: (rows(source, preprocess), counts[name]) for name, source in sources.items()}
    return Mixture(mixed, config.batch_size, config.seed, transform=dict, period=period)


def data_identity(sources: Mapping[str, Source]) -> dict[str, Any]:
    """What must be equal for a run to continue on the same stream of examples."""
    return {
        name: {"rows": len(source.examples), "index": source.examples.content_hash}
        for name, source in sources.items()
    }
