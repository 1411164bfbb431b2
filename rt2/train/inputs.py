"""From the config's sources to batches of token rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from rt2.actions import ActionCodec
from rt2.data import statistics, statistics_files
from rt2.data.errors import DataError
from rt2.data.mixture import Mixture, source_seed
from rt2.data.shares import rows_from_shares
from rt2.data.web.corruption import SpanCorruption
from rt2.preprocess import Preprocess
from rt2.prompts import action_prompt, integers
from rt2.train.rows import TaskRow, WebRow
from rt2.train.source_rows import shares
from rt2.train.sources import Source

INSTRUCTION_WEIGHT = 20  # an instruction stands for many rows, a web text for one

log = logging.getLogger(__name__)


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


def state_codecs(sources: Mapping[str, Source]) -> dict[str, ActionCodec]:
    """The state codec of every robot data set whose actions are asked with the state.

    Raises DataError where some sources of a data set ask with it and others without: a policy could
    not know which way is meant.
    """
    acting = [source for source in sources.values() if source.task is not None and source.task.acts]
    for source in acting:
        first = next(other for other in acting if other.spec == source.spec)
        if source.row.proprio != first.row.proprio:
            raise DataError(
                f"config.sources.{first.name}.proprio={first.row.proprio}, but {source.name} of "
                f"the same spec {source.spec!r} has {source.row.proprio}: set both alike"
            )
    return {source.spec: source.task.state_codec for source in acting if source.row.proprio}


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
    web can be given actions later. So is every integer of a state, which words must not lose to
    actions (`ActionVocabulary.overwrite`).
    """
    yield from [action_prompt("")] * INSTRUCTION_WEIGHT * 20
    for codec in state_codecs(sources).values():
        yield from [integers(range(max(codec.spec.bins)))] * INSTRUCTION_WEIGHT
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
                "proprio": source.row.proprio,
            }
            for name, source in sources.items()
        },
    }
