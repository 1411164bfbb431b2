"""Writes the tabletop's data sets: robot episodes, and the "web" of pictures with questions.

    python -m rt2.sim.collect --out=data

    data/tabletop/1.0.0/              RLDS: episodes of the oracle, splits train and val
    data/web/web-train-00000.tar ...  WebDataset: pictures with questions and answers
    data/web_vqa/1.0.0/               TFDS vqa: one record a question, train (small) and validation
    data/collect.json                 the parameters, written last: the mark of completeness

A directory that is complete with equal parameters is left as it is; what an interrupted run left is
begun again. About a minute on two cores at the default size.
"""

import argparse
import concurrent.futures
import dataclasses
import fcntl
import json
import multiprocessing
import os
import pathlib
import shutil
import sys
import time

from rt2.sim import corpora, scenes, splits, tabletop, web

_NAMES = ("tabletop", "web", "web_vqa")
_STAGING = ".collecting"


class CollectError(Exception):
    """What stops a collection; its text is for the person at the terminal."""


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    args = _parser().parse_args(argv)
    out, workers = args.out, args.workers
    given = {
        field.name: getattr(args, field.name) for field in dataclasses.fields(corpora.Parameters)
    }
    try:
        collect(out, corpora.Parameters(**given), workers)
    except (CollectError, OSError) as error:
        print(f"rt2.sim.collect: {error}", file=sys.stderr)
        return 1
    return 0


def collect(out: pathlib.Path, parameters: corpora.Parameters, workers: int) -> None:
    """Writes the three data sets under `out`; CollectError where something else stands there."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".collect.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CollectError(f"another collection is writing {out}: wait for it to end") from None
        if _already_there(out, parameters):
            print(f"{out}: already there with these parameters, nothing to do")
            return
        _write_all(out, parameters, workers)


def _already_there(out: pathlib.Path, parameters: corpora.Parameters) -> bool:
    """Returns whether `out` is complete; clears what an interrupted collection left."""
    marker, staging = out / "collect.json", out / _STAGING
    if marker.is_file():
        _check_equal(marker, parameters.record())
        return True
    for name in (name for name in _NAMES if (out / name).exists()):
        if not staging.exists() or (staging / name).exists():
            raise CollectError(
                f"{out / name} exists but was not written by this command (no {marker}): "
                "move it away or choose another --out"
            )
        shutil.rmtree(out / name)
    if staging.exists():
        shutil.rmtree(staging)
    return False


def _check_equal(marker: pathlib.Path, wanted: dict[str, object]) -> None:
    try:
        found = json.loads(marker.read_text())
    except ValueError as error:
        raise CollectError(
            f"{marker} is not JSON ({error}): remove {marker.parent} and collect again"
        ) from None
    for key in sorted({*found, *wanted}):
        if found.get(key) != wanted.get(key):
            raise CollectError(
                f"{marker} says {key}={found.get(key)!r}, asked for is {key}={wanted.get(key)!r}: "
                f"choose another --out, or remove {', '.join(_NAMES)} and collect.json there"
            )


def _write_all(out: pathlib.Path, parameters: corpora.Parameters, workers: int) -> None:
    start, staging = time.time(), out / _STAGING
    staging.mkdir()
    splits.load()  # before the workers, who then all read the cached pictograms
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        corpora.write_shards(pool, staging / "web", parameters)
        corpora.write_tfds(pool, staging, parameters)
    for name in _NAMES:
        os.rename(staging / name, out / name)
    (staging / "collect.json").write_text(json.dumps(parameters.record(), indent=1) + "\n")
    os.rename(staging / "collect.json", out / "collect.json")
    shutil.rmtree(staging)
    print(f"{out}: {', '.join(_NAMES)} written in {time.time() - start:.0f} s")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rt2.sim.collect",
        description="Writes the tabletop's robot episodes (RLDS) and web (WebDataset, vqa).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="directory to write into")
    parser.add_argument("--episodes", type=_positive, default=6000, help="training episodes")
    parser.add_argument("--val-episodes", type=_positive, default=100, help="held-out episodes")
    parser.add_argument("--scenes", type=_positive, default=20000, help="web pictures for training")
    parser.add_argument(
        "--val-scenes", type=_positive, default=500, help="web pictures for validation"
    )
    parser.add_argument(
        "--image-size", type=_image_size, default=64, help="side of all pictures, pixels"
    )
    parser.add_argument(
        "--tasks",
        type=_tasks,
        default="reach",
        help=f"by turns, comma-separated, of {', '.join(scenes.TASKS)}",
    )
    parser.add_argument(
        "--objects",
        type=_objects,
        default=str(tabletop.DEFAULT_OBJECTS),
        help="numbers of objects on a board, comma-separated; each episode draws one",
    )
    parser.add_argument(
        "--descriptions",
        action="store_true",
        help="the web also says what kind of thing and what colour, and asks where such a thing is",
    )
    parser.add_argument(
        "--web-objects",
        type=_several,
        default=web.DEFAULT_OBJECTS,
        help="at most, in a web picture; a part of the pictures shows a single one",
    )
    parser.add_argument("--seed", type=_natural, default=0, help="decides all that is random")
    parser.add_argument("--workers", type=_positive, default=os.cpu_count(), help="processes")
    return parser


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def _positive(text: str) -> int:
    if _natural(text) < 1:
        raise argparse.ArgumentTypeError("at least 1 is needed")
    return int(text)


def _several(text: str) -> int:
    if not 2 <= _natural(text) <= web.MAX_OBJECTS:
        raise argparse.ArgumentTypeError(f"2 to {web.MAX_OBJECTS} objects are possible")
    return int(text)


def _image_size(text: str) -> int:
    if _natural(text) < tabletop.MIN_IMAGE_SIZE:
        raise argparse.ArgumentTypeError(f"at least {tabletop.MIN_IMAGE_SIZE} pixels are needed")
    return int(text)


def _tasks(text: str) -> tuple[str, ...]:
    tasks = tuple(text.split(","))
    for task in tasks:
        if task not in scenes.TASKS:
            raise argparse.ArgumentTypeError(f"no task {task!r}; tasks: {', '.join(scenes.TASKS)}")
    return tasks


def _objects(text: str) -> tuple[int, ...]:
    numbers = tuple(_natural(number) for number in text.split(","))
    if not all(2 <= number <= scenes.MAX_OBJECTS for number in numbers):
        raise argparse.ArgumentTypeError(f"a board has 2 to {scenes.MAX_OBJECTS} objects")
    return numbers


if __name__ == "__main__":
    sys.exit(main())
