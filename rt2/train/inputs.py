"""From the config's sources to batches of token rows."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from rt2.actions import ActionCodec
from rt2.data import specs, statistics, statistics_files
from rt2.data.errors import DataError, nearest
from rt2.data.mixture import Mixture, source_seed
from rt2.data.plans import Plans
from rt2.data.robot import RobotExamples
from rt2.data.shares import rows_from_shares
from rt2.data.tasks import RobotTask
from rt2.data.vqa import WebExamples
from rt2.data.web import answers, options
from rt2.data.web.corruption import SpanCorruption
from rt2.preprocess import Preprocess
from rt2.prompts import action_prompt
from rt2.train.rows import TaskRow, WebRow
from rt2.train.source_rows import shares, training_rows

KINDS = ("robot", "web")
INSTRUCTION_WEIGHT = 20  # an instruction stands for many rows, a web text for one

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Source:
    """One configured source: its row of the config, its examples and, for robot data, its task."""

    name: str
    row: ml_collections.ConfigDict
    examples: RobotExamples | WebExamples
    task: RobotTask | None

    @property
    def kind(self) -> str:
        """robot or web."""
        return self.row.kind

    @property
    def spec(self) -> str:
        """The name of the dataset spec, for robot data."""
        return self.row.spec

    @property
    def rows(self) -> RobotTask | WebExamples:
        """What a model row is made of, by number."""
        return self.task or self.examples


def open_sources(config: ml_collections.ConfigDict, which: str) -> dict[str, Source]:
    """The "sources" to train on (see `source_rows.training_rows`) or "eval_sources", opened."""
    opened = {}
    rows = training_rows(config) if which == "sources" else config.eval_sources
    for name, row in rows.items():
        where = f"config.{which}.{name}"
        if row.kind not in KINDS:
            raise DataError(f"{where}.kind={row.kind!r}: {nearest(row.kind, KINDS)}")
        task, examples = None, None
        if row.kind == "robot":
            spec = dataset_spec(config, row.spec)
            examples = RobotExamples(
                row.path, row.split, spec, config.history, quarantine=row.quarantine
            )
            task = _task(row, examples, config, where)
        else:
            examples = WebExamples(row.path, row.split or None, options.from_row(row))
            answers.check_rule(row.answer)
        _check_evaluation(which, row, where)
        _report(name, examples)
        log.info("%s %s: %d rows from %s", which, name, len(examples), row.path)
        opened[name] = Source(name, row, examples, task)
    if which == "sources" and not opened:
        raise DataError("no source has a share: set --config.sources.NAME.share above 0")
    return opened


def _task(row, examples: RobotExamples, config, where: str) -> RobotTask:
    plans = Plans(row.plan, examples.instructions) if row.plan else None
    task = RobotTask(examples, row.task, source_seed(config.seed, where), plans)
    if task.frames > config.history:
        raise DataError(
            f"{where}.task={row.task!r} shows {task.frames} images: set --config.history="
            f"{task.frames}"
        )
    return task


def _check_evaluation(which: str, row: ml_collections.ConfigDict, where: str) -> None:
    if which != "eval_sources":
        return
    if row.kind == "robot" and row.task != "action":
        raise DataError(f"{where}.task={row.task!r}: only the task action is evaluated")
    if row.kind == "web" and row.text_only == "keep":
        raise DataError(f"{where}.text_only='keep': questions need an image; drop or refuse")


def dataset_spec(config: ml_collections.ConfigDict, name: str) -> specs.DatasetSpec:
    """The spec `name` of the config's own rows, or else of the shipped table."""
    if name in config.dataset_specs:
        return specs.from_config({"name": name, **config.dataset_specs[name].to_dict()})
    return specs.get(name)


def _report(name: str, examples: RobotExamples | WebExamples) -> None:
    for reason, count in examples.dropped.items():
        if count:
            log.info("%s: %d left out: %s", name, count, reason)
    if isinstance(examples, RobotExamples):
        for entry in examples.steps.index.quarantined:
            log.warning("%s: quarantined: %s", name, entry)
        for slot, odd in examples.warnings():
            log.warning("%s: action %s: %s", name, slot, odd)


def fit_codecs(sources: Mapping[str, Source]) -> dict[str, ActionCodec]:
    """An action codec for every robot data set, with bounds by its spec's rule."""
    codecs: dict[str, ActionCodec] = {}
    for source in sources.values():
        if source.kind != "robot" or source.spec in codecs:
            continue
        examples = source.examples
        codec = ActionCodec(examples.spec.action_spec, *_bounds(source))
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


def _bounds(source: Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(low, high) of the action bins, from the source's own figures or those of a file."""
    if not source.row.statistics:
        return source.examples.bounds()
    figures = statistics_files.read(source.row.statistics, source.spec).action
    return statistics.bounds(figures, source.examples.spec.bounds)


def texts(source: Source, limit: int) -> Iterator[tuple[str, str]]:
    """(question, words of the answer) of every instruction, or of `limit` web rows."""
    if source.task is not None:
        yield from source.task.texts()
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
        slots = 0
        if source.task is not None and source.task.acts:
            slots = len(preprocess.codec(source.spec).spec.slots)
        for question, words in texts(source, limit):
            if question:  # text without one is corrupted: the part that fits is taken
                preprocess.text_prefix(question)
                preprocess.tokenizer.padded(words, preprocess.target_length - slots, end=True)


def make_mixture(
    config: ml_collections.ConfigDict, sources: Mapping[str, Source], preprocess: Preprocess
) -> Mixture:
    """Batches of the configured shares."""
    period = config.share_period
    lengths = {name: len(source.rows) for name, source in sources.items()}
    counts = rows_from_shares(shares(config, lengths), config.batch_size, period)
    log.info("rows of %s: %s", "a batch" if period == 1 else f"{period} batches", counts)
    make = {name: row_maker(config, source, preprocess) for name, source in sources.items()}
    return Mixture(
        {name: (source.rows, counts[name]) for name, source in sources.items()},
        config.batch_size,
        config.seed,
        transform=lambda example, draw: make[draw.source](example, draw),
        period=period,
    )


def row_maker(
    config: ml_collections.ConfigDict, source: Source, preprocess: Preprocess
) -> TaskRow | WebRow:
    """What makes a model row of an example of `source`."""
    if source.task is not None:
        return TaskRow(preprocess, preprocess.codec(source.spec))
    corruption = None
    if source.row.text_only == "keep":
        corruption = SpanCorruption(
            preprocess.tokenizer.sentinels, config.corruption.density, config.corruption.mean_span
        )
    return WebRow(preprocess, source.row.answer, corruption, source_seed(config.seed, source.name))


def data_identity(
    config: ml_collections.ConfigDict, sources: Mapping[str, Source], mixture: Mixture
) -> dict[str, Any]:
    """What must be equal for a run to continue on the same stream of examples."""
    return {
        "seed": mixture.seed,
        "batch_size": mixture.batch_size,
        "share_period": config.share_period,
        "sources": {
            name: {
                "rows": mixture.lengths[name],
                "rows_of_a_period": mixture.counts[name],
                "index": source.examples.content_hash,
                "task": source.row.task if source.task else source.row.answer,
            }
            for name, source in sources.items()
        },
    }
