"""python -m rt2.evaluate --checkpoint=DIR: what a checkpoint can do, with counts and intervals."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rt2 import checkpoint
from rt2.evaluate.evaluation import Options, evaluate, training_metrics
from rt2.evaluate.report import render
from rt2.inference.policy import Policy
from rt2.sim.conditions import CONDITIONS, OBJECTS
from rt2.sim.scenes import TASKS

OBJECT_SPLITS = ("seen", "web_only", "held_out")


def main(argv: Sequence[str] | None = None) -> None:
    """Measures a checkpoint, prints the figures and writes the files asked for."""
    args = _parser().parse_args(argv)
    for file in (args.report, args.json):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
    print(f"Loading {args.checkpoint} ...", flush=True)
    policy = Policy.load(args.checkpoint)
    assets = checkpoint.read_json(checkpoint.find(args.checkpoint), "assets")
    evaluation = evaluate(policy, assets, _options(args), training_metrics(args.checkpoint))
    print("\n".join(evaluation.lines()))
    if args.json is not None:
        args.json.write_text(json.dumps(evaluation.to_json(), indent=1) + "\n", "utf-8")
        print(f"Figures: {args.json}")
    if args.report is not None:
        args.report.write_text(render(evaluation), "utf-8")
        print(f"Report:  {args.report}")


def _options(args: argparse.Namespace) -> Options:
    fields = vars(args).copy()
    for name in ("checkpoint", "report", "json"):
        del fields[name]
    return Options(**fields)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rt2.evaluate", description=__doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a workdir, or one step's folder")
    add("--data", type=Path, help="folder of the evaluation sources, if not where they were")
    add("--before", type=Path, help="weights of the start, to be asked the same questions")
    add("--report", type=Path, help="write the HTML page here")
    add("--json", type=Path, help="write the figures here")
    add("--tasks", type=_names(TASKS), default=("reach",), help="of: " + ", ".join(TASKS))
    add(
        "--splits",
        type=_names(CONDITIONS),
        default=OBJECT_SPLITS,
        help="of: " + ", ".join(CONDITIONS),
    )
    add("--seed", type=int, default=0, help="decides scenes, questions and steps")
    counts = {
        "episodes": (200, "rollouts per task and split"),
        "questions": (500, "held-out questions asked"),
        "steps": (500, "recorded steps asked"),
        "objects": (OBJECTS, "objects on a board, where the split leaves it open"),
        "videos": (2, "films per task, split and outcome"),
        "batch": (64, "rows per request to the policy"),
    }
    for name, (default, text) in counts.items():
        add(f"--{name}", type=_count, default=default, help=f"{text} (default {default})")
    return parser


def _names(known: Sequence[str]):
    def names(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return chosen

    return names


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    main()
