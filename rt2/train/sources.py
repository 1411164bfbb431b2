"""The config's sources, opened: their examples and what is asked about them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable

import ml_collections

from rt2.actions import ActionCodec
from rt2.data import specs
from rt2.data.errors import DataError, nearest
from rt2.data.mixture import source_seed
from rt2.data.plans import Plans
from rt2.data.proprio import state_codec
from rt2.data.robot import RobotExamples
from rt2.data.tasks import RobotTask
from rt2.data.vqa import WebExamples
from rt2.data.web import answers, options
from rt2.train.source_rows import training_rows

KINDS = ("robot", "web")
WITH_STATE = ("action", "plan")  # tasks whose questions may hold the robot's state

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
    opened: dict[str, Source] = {}
    rows = training_rows(config) if which == "sources" else config.eval_sources
    for name, row in rows.items():
        where = f"config.{which}.{name}"
        if row.kind not in KINDS:
            raise DataError(f"{where}.kind={row.kind!r}: {nearest(row.kind, KINDS)}")
        task, examples = None, None
        if row.kind == "robot":
            spec = dataset_spec(config, row.spec)
            _check_cameras(row, config, where)
            examples = RobotExamples(
                row.path, row.split, spec, config.history, row.cameras, row.quarantine
            )
            states = _state_codec(row, examples, opened.values(), where)
            task = _task(row, examples, config, where, states)
        else:
            examples = WebExamples(
                row.path, row.split or None, options.from_row(row), quarantine=row.quarantine
            )
            answers.check_rule(row.answer)
        _check_evaluation(which, row, where)
        _report(name, examples)
        log.info("%s %s: %d rows from %s", which, name, len(examples), row.path)
        opened[name] = Source(name, row, examples, task)
    if which == "sources" and not opened:
        raise DataError("no source has a share: set --config.sources.NAME.share above 0")
    return opened


def _check_cameras(
    row: ml_collections.ConfigDict, config: ml_collections.ConfigDict, where: str
) -> None:
    if len(row.cameras) != len(config.cameras) - 1:
        raise DataError(
            f"{where}.cameras={tuple(row.cameras)}: the features of the cameras "
            f"{tuple(config.cameras[1:])} of config.cameras, one each; the first is the spec's own"
        )


def _state_codec(
    row: ml_collections.ConfigDict, examples: RobotExamples, opened: Iterable[Source], where: str
) -> ActionCodec | None:
    """What writes the state: one codec a data set, fitted where its first source needs it."""
    if row.proprio and row.task not in WITH_STATE:
        raise DataError(f"{where}.proprio: belongs to the tasks {' and '.join(WITH_STATE)}")
    if not row.proprio and row.task != "position":
        return None
    for other in opened:
        if other.task is not None and other.spec == row.spec and other.task.state_codec is not None:
            return other.task.state_codec
    return state_codec(examples)


def _task(
    row: ml_collections.ConfigDict,
    examples: RobotExamples,
    config: ml_collections.ConfigDict,
    where: str,
    states: ActionCodec | None,
) -> RobotTask:
    plans = Plans(row.plan, examples) if row.plan else None
    task = RobotTask(examples, row.task, source_seed(config.seed, where), plans, states)
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
    for entry in examples.quarantined:
        log.warning("%s: quarantined: %s", name, entry)
    if isinstance(examples, RobotExamples):
        for slot, odd in examples.warnings():
            log.warning("%s: action %s: %s", name, slot, odd)
