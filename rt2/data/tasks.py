"""Questions made from robot episodes: the action, Language-Table's five tasks, chains of thought.

RT-2 co-fine-tunes its Language-Table model on five tasks made from the episodes themselves
(appendix B), and another model on actions that follow a plan in words (section 4.4).
"""

import bisect
import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from rt2 import prompts
from rt2.actions import ActionCodec
from rt2.data.errors import DataError, nearest
from rt2.data.plans import Plans
from rt2.data.robot import RobotExamples

TASKS = ("action", "instruction", "position", "timesteps", "success", "plan")
PAIR = 2  # frames of the tasks that compare two moments
YES, NO = "yes", "no"


@dataclasses.dataclass(frozen=True)
class TaskExample:
    """One question and its answer.

    `images`: uint8 [H, W, 3] each, oldest first, then those of further cameras. `prefix`: the whole
    question. The answer is the text `target`, then the tokens of `action` float32 [D] and
    `terminate` where it is not None.
    """

    images: tuple[np.ndarray, ...]
    prefix: str
    target: str
    action: np.ndarray | None
    terminate: bool
    kind: str
    example_id: str


class RobotTask:
    """`rows[i]` is a TaskExample of one task about the i-th example of a robot data set.

    Tasks:
    action: what to do next, from the `history` images of `examples`.
    instruction: what is carried out, from the first step and one of the second half of the episode.
    position: the state in the last image as integers, from the `history` images.
    timesteps: how many steps lie between two images of an episode, 0 among them.
    success: whether the instruction is carried out. Even rows: the first and the last step of an
        episode, yes. Odd rows, no: by turns a step of its first half instead of the last, or its
        own two images under another instruction of the split (which may by chance be fulfilled as
        well: the label is as true as the instructions are different).
    plan: a plan in words (`plans`), then the action.
    `state_codec` (`rt2.data.proprio`) makes integers of the state: position needs it, and the
    questions of action and plan hold the state where it is given.

    Which images and texts row i shows is a function of (seed, task, i) alone, not of the epoch: any
    row can be read at any time on any process, and a run that resumes goes on with the same rows.
    A step that comes again in the next epoch is shown with the same other step; the variety lies in
    the many steps. Immutable, picklable. Raises DataError where the set lacks what the task needs.
    """

    def __init__(
        self,
        examples: RobotExamples,
        task: str,
        seed: int,
        plans: Plans | None = None,
        state_codec: ActionCodec | None = None,
    ):
        if task not in TASKS:
            raise DataError(f"unknown task {task!r}: {nearest(task, TASKS)}")
        if state_codec is None and task == "position":
            raise DataError("task 'position' needs the codec of the state")
        if (task == "plan") != (plans is not None):
            raise DataError(f"task {task!r}: plans belong to the task plan, which needs them")
        self.examples, self.task, self.seed, self.plans = examples, task, seed, plans
        self.state_codec = state_codec
        if task == "success":
            self._check_negatives()

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def acts(self) -> bool:
        """Whether a row's answer ends with an action."""
        return self.task in ("action", "plan")

    @property
    def frames(self) -> int:
        """How many images a row has."""
        return PAIR if self.task in _PAIRED else self.examples.history

    def __getitem__(self, i: int) -> TaskExample:
        make = _PAIRED[self.task] if self.task in _PAIRED else _SINGLE[self.task]
        return make(self, i)

    def texts(self) -> Iterator[tuple[str, str]]:
        """(prefix, target) for every instruction, with states and numbers as wide as they can be.

        For the tokenizer's corpus and for a check of lengths; of `plan` and `action` the integers
        of the action still follow.
        """
        widest = None
        if self.state_codec is not None:
            widest = prompts.integers([bins - 1 for bins in self.state_codec.spec.bins])
        if self.task == "instruction":
            yield from ((prompts.instruction_prompt(), i) for i in self.examples.instructions)
        elif self.task == "position":
            yield prompts.position_prompt(), widest
        elif self.task == "timesteps":
            longest = np.diff(self.examples.steps.split.column("episode.first")).max()
            yield prompts.timesteps_prompt(), str(longest)
        elif self.task == "success":
            yield from ((prompts.success_prompt(i), YES) for i in self.examples.instructions)
            yield from ((prompts.success_prompt(i), NO) for i in self.examples.instructions)
        elif self.task == "plan":
            yield from (_planned(i, widest, plan) for i, plan in self.plans.distinct())
        else:
            yield from ((prompts.action_prompt(i, widest), "") for i in self.examples.instructions)

    def state(self, values: np.ndarray | None) -> str | None:
        """The state as integers; None where the task does not write it."""
        if self.state_codec is None:
            return None
        return prompts.integers(self.state_codec.encode(values))

    def draw(self, i: int, below: int, number: int = 0) -> int:
        """Draw `number` (0 to 3) of row i, in 0 .. below - 1."""
        key = [self.seed, TASKS.index(self.task)]
        return int(np.random.Philox(key=key, counter=i).random_raw(number + 1)[-1] % below)

    def episode(self, i: int) -> tuple[int, int, int]:
        """(step of row i, first step of its episode, first step of the next episode)."""
        row = self.examples.row(i)
        episode, step = self.examples.steps.position(row)
        return row, row - step, int(self.examples.steps.split.column("episode.first")[episode + 1])

    def pair(self, i: int, rows: tuple[int, int], prefix: str, target: str) -> TaskExample:
        """A row of two images and words."""
        images = tuple(self.examples.image(row) for row in rows)
        return TaskExample(images, prefix, target, None, False, self.task, self.example_id(i))

    def example_id(self, i: int) -> str:
        """The id of the step, then the task."""
        return f"{self.examples.steps.example_id(self.examples.row(i))}/{self.task}"

    def _check_negatives(self) -> None:
        shortest = np.diff(self.examples.steps.split.column("episode.first")).min()
        if shortest < 2 and len(self.examples.instructions) < 2:
            raise DataError(
                f"{self.examples.steps.index.directory}: the task success needs episodes of two "
                "steps or a second instruction, to show what is no success"
            )


def _action(task: RobotTask, i: int) -> TaskExample:
    example = task.examples[i]
    state = task.state(example.state)
    prefix, target = prompts.action_prompt(example.instruction, state), ""
    if task.plans is not None:
        prefix, target = _planned(example.instruction, state, task.plans[i])
    return TaskExample(
        images=(*example.images, *example.views.values()),
        prefix=prefix,
        target=target,
        action=example.action,
        terminate=example.terminate,
        kind=task.task,
        example_id=task.example_id(i),
    )


def _planned(instruction: str, state: str | None, plan: str) -> tuple[str, str]:
    """The question, and the words before the action."""
    return prompts.plan_prompt(instruction, state), prompts.plan_target(plan)


def _position(task: RobotTask, i: int) -> TaskExample:
    example = task.examples[i]
    return TaskExample(
        images=(*example.images, *example.views.values()),
        prefix=prompts.position_prompt(),
        target=task.state(example.state),
        action=None,
        terminate=False,
        kind=task.task,
        example_id=task.example_id(i),
    )


def _instruction(task: RobotTask, i: int) -> TaskExample:
    _, first, end = task.episode(i)
    half = (first + end) // 2
    later = half + task.draw(i, end - half)
    return task.pair(i, (first, later), prompts.instruction_prompt(), task.examples.instruction(i))


def _timesteps(task: RobotTask, i: int) -> TaskExample:
    row, first, end = task.episode(i)
    rows = sorted((row, first + task.draw(i, end - first)))
    return task.pair(i, tuple(rows), prompts.timesteps_prompt(), str(rows[1] - rows[0]))


def _success(task: RobotTask, i: int) -> TaskExample:
    _, first, end = task.episode(i)
    last, instruction = end - 1, task.examples.instruction(i)
    if i % 2 == 0:
        return task.pair(i, (first, last), prompts.success_prompt(instruction), YES)
    early = (first + last + 1) // 2
    texts = task.examples.instructions
    if len(texts) > 1 and (i % 4 == 3 or early == first):
        other = task.draw(i, len(texts) - 1)
        other += other >= bisect.bisect_left(texts, instruction)
        return task.pair(i, (first, last), prompts.success_prompt(texts[other]), NO)
    earlier = first + task.draw(i, early - first)
    return task.pair(i, (first, earlier), prompts.success_prompt(instruction), NO)


Maker = Callable[[RobotTask, int], TaskExample]
_SINGLE: dict[str, Maker] = {"action": _action, "position": _position, "plan": _action}
_PAIRED: dict[str, Maker] = {
    "instruction": _instruction,
    "timesteps": _timesteps,
    "success": _success,
}
