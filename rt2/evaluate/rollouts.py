"""Closed loop on the embedded tabletop: episodes side by side, judged by the simulator."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rt2.evaluate.agents import Agent, Running
from rt2.evaluate.statistics import Mean, Rate
from rt2.evaluate.video import Video
from rt2.sim.conditions import CONDITIONS, OBJECTS
from rt2.sim.scenes import TASKS
from rt2.sim.tabletop import MIN_IMAGE_SIZE, TabletopEnv, checked_action

VIDEO_SIZE = 256  # pixels; episodes are drawn again for people, larger than the policy saw them
_STREAM = 230715818  # keeps evaluation's seeds apart from those of the collected episodes


@dataclass(frozen=True)
class Trial:
    """A scene to be met: task, split (of `rt2.sim.conditions`), seed, number of objects."""

    task: str
    split: str
    seed: int
    objects: int = OBJECTS

    def begin(self, image_size: int) -> Running:
        """The trial's first observation, in an environment of its own."""
        env = TabletopEnv(task=self.task, image_size=image_size)
        options = CONDITIONS[self.split].options(self.seed, self.objects)
        observation, _ = env.reset(seed=self.seed, options=options)
        return Running(env, self.seed, [observation["rgb"]])


@dataclass(frozen=True)
class Episode:
    """How a policy fared in a trial. `actions` are those carried out, float [steps, 2] metres."""

    policy: str
    trial: Trial
    instruction: str
    success: bool
    replies: int
    invalid: int
    actions: tuple[np.ndarray, ...]


@dataclass
class _Record:
    trial: Trial
    running: Running
    replies: int = 0
    invalid: int = 0
    actions: list[np.ndarray] = field(default_factory=list)


def trials(
    tasks: Sequence[str],
    split_names: Sequence[str],
    episodes: int,
    seed: int,
    objects: int = OBJECTS,
) -> list[Trial]:
    """`episodes` trials of each task and split; the same seed gives the same scenes."""
    unknown = [name for name in split_names if name not in CONDITIONS]
    if unknown:
        raise ValueError(f"no split is called {unknown[0]!r}; splits: {', '.join(CONDITIONS)}")
    seeds = [
        int(np.random.SeedSequence([_STREAM, seed, i]).generate_state(1)[0])
        for i in range(episodes)
    ]
    return [Trial(task, name, s, objects) for task in tasks for name in split_names for s in seeds]


def play(agent: Agent, queue: Iterable[Trial], batch: int, image_size: int) -> Iterator[Episode]:
    """Yields an Episode per trial, as they end; at most `batch` of them run side by side."""
    # The simulator draws even for an agent that looks at no picture: then as little as it can.
    size = image_size if agent.needs_pictures else MIN_IMAGE_SIZE
    waiting = iter(queue)
    records: list[_Record] = []
    while True:
        while len(records) < batch and (trial := next(waiting, None)) is not None:
            records.append(_Record(trial, trial.begin(size)))
        if not records:
            return
        replies = agent.act([record.running for record in records])
        going_on = []
        for record, reply in zip(records, replies, strict=True):
            outcome = _advance(record, reply)
            if outcome is None:
                going_on.append(record)
            else:
                yield _episode(agent, record, outcome)
        records = going_on


def _advance(record: _Record, reply: dict[str, Any]) -> bool | None:
    """Carries out one reply; the episode's success once it is over, else None.

    In place of an invalid action the arm holds. A reply that terminates is not carried out, and
    the task is not done, or the simulator would have ended the episode before.
    """
    record.replies += 1
    action = valid_action(reply)
    if action is None:
        record.invalid += 1
        action = np.zeros(2)
    elif reply["terminate"]:
        return False
    running = record.running
    observation, _, success, truncated, _ = running.env.step(action)
    running.pictures.append(observation["rgb"])
    running.steps += 1
    record.actions.append(action)
    return success if success or truncated else None


def valid_action(reply: dict[str, Any]) -> np.ndarray | None:
    """The reply's action, float [2] in metres; None if it lacks one that the arm can carry out.

    Invalid are: no `actions`, another shape than [1, 2], NaN or infinity, out of the action's box.
    """
    try:
        actions = np.asarray(reply["actions"], np.float64)
        return checked_action(actions[0]) if len(actions) == 1 else None
    except (KeyError, TypeError, ValueError, IndexError):
        return None


def _episode(agent: Agent, record: _Record, success: bool) -> Episode:
    instruction = record.running.env.scene.instruction
    counts = (record.replies, record.invalid)
    return Episode(agent.name, record.trial, instruction, success, *counts, tuple(record.actions))


def summarise(episodes: Iterable[Episode]) -> list[dict]:
    """A row per task, split and policy: {policy, task, split, success, steps, actions, invalid}.

    `steps` is the Mean number of steps of the episodes that succeeded, None if none did; `actions`
    counts the replies asked for, `invalid` those among them that no arm could carry out.
    """
    groups = defaultdict(list)
    for episode in episodes:
        groups[episode.trial.task, episode.trial.split, episode.policy].append(episode)
    rows = []
    policies = list(dict.fromkeys(policy for _, _, policy in groups))
    for task, split, policy in sorted(groups, key=lambda key: _place(key, policies)):
        group = groups[task, split, policy]
        lengths = [len(episode.actions) for episode in group if episode.success]
        rows.append(
            {
                "policy": policy,
                "task": task,
                "split": split,
                "success": Rate.of(episode.success for episode in group),
                "steps": Mean.of(lengths) if lengths else None,
                "actions": sum(episode.replies for episode in group),
                "invalid": sum(episode.invalid for episode in group),
            }
        )
    return rows


def _place(key: tuple[str, str, str], policies: Sequence[str]) -> tuple[int, int, int]:
    """Where a row stands: by task, then split, then policy in the order of their playing."""
    task, split, policy = key
    return TASKS.index(task), list(CONDITIONS).index(split), policies.index(policy)


def videos(episodes: Sequence[Episode], each: int) -> list[Video]:
    """Films of the first `each` failures and successes of every task and split, by trial."""
    kept = defaultdict(list)
    for episode in sorted(episodes, key=lambda e: e.trial.seed):
        group = kept[episode.trial.task, episode.trial.split, episode.success]
        if len(group) < each:
            group.append(episode)
    order = list(CONDITIONS).index
    chosen = sorted(kept, key=lambda key: (TASKS.index(key[0]), order(key[1]), key[2]))
    return [film(episode) for key in chosen for episode in kept[key]]


def film(episode: Episode) -> Video:
    """The episode played again from its actions and drawn for people."""
    trial = episode.trial
    env = trial.begin(MIN_IMAGE_SIZE).env
    frames = [env.frame(VIDEO_SIZE)]
    for action in episode.actions:
        env.step(action)
        frames.append(env.frame(VIDEO_SIZE))
    return Video(
        tuple(frames),
        trial.task,
        trial.split,
        episode.instruction,
        episode.success,
        len(episode.actions),
    )
