"""Shows what a robot data set holds and proposes its dataset spec row.

python -m rt2.data.inspect DIR [--spec=NAME] [--json=FILE] [--html=FILE]
"""

import argparse
import base64
import html
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from rt2.data import dataset_info, proposal, specs
from rt2.data.errors import DataError
from rt2.data.rlds import RldsSteps
from rt2.data.robot import RobotExamples

SHOWN = 8  # instructions in the text, frames in the page


def report(directory: Path, spec_name: str | None) -> dict[str, Any]:
    """Everything that is shown, as plain JSON values.

    The statistics are those of the steps that `spec_name` (default: the proposed row) trains on.
    Raises DataError where the data set is not whole.
    """
    splits = tuple(dataset_info.load(directory).splits)
    steps = RldsSteps(directory, splits[0])
    row = proposal.propose(steps)
    spec = specs.get(spec_name) if spec_name else specs.from_config(row)
    leaves = steps.index.features.leaves
    found: dict[str, Any] = {
        "name": steps.index.info.name,
        "version": steps.index.info.version,
        "directory": str(directory),
        "content_hash": steps.index.content_hash,
        "features": {
            leaf.name: f"{leaf.level} {leaf.kind} {leaf.dtype} {list(leaf.shape)}"
            for leaf in leaves
        },
        "spec": spec.name if spec_name else "proposed",
        "row": row,
        "splits": {},
    }
    for split in splits:
        found["splits"][split] = _split(RobotExamples(directory, split, spec))
    found["leaks"] = _leaks(directory, splits, spec.camera)
    return found


def _leaks(directory: Path, splits: tuple[str, ...], camera: str) -> list[str]:
    """What episodes stand in two splits, by the CRC32C of their images."""
    seen: dict[bytes, str] = {}
    shared: dict[tuple[str, str], int] = {}
    for name in splits:
        steps = RldsSteps(directory, name)
        crcs = steps.split.column(f"{steps.leaf(camera).key}.crc")
        starts = steps.split.column("episode.first")
        for first, last in zip(starts[:-1], starts[1:], strict=True):
            other = seen.setdefault(crcs[first:last].tobytes(), name)
            if other != name:
                shared[name, other] = shared.get((name, other), 0) + 1
    return [f"{n} episodes of {a} stand in {b} too" for (a, b), n in shared.items()]


def _split(examples: RobotExamples) -> dict[str, Any]:
    low, high = examples.bounds()
    outside = ((examples.actions < low) | (examples.actions > high)).mean(axis=0)
    return {
        "episodes": examples.steps.split.episodes,
        "steps": len(examples.steps),
        "trainable": len(examples),
        "dropped": examples.dropped,
        "instructions": list(examples.instructions),
        "dimensions": [slot.name for slot in examples.spec.action_spec.continuous],
        "action": examples.statistics.to_json(),
        "bounds": {"low": list(low), "high": list(high)},
        "outside_bounds": [float(share) for share in outside],
        "warnings": [list(warning) for warning in examples.warnings()],
    }


def as_text(found: dict[str, Any]) -> str:
    """The report for a terminal."""
    lines = [f"{found['name']} {found['version']}  {found['directory']}", "", "features"]
    lines += [f"  {name:40} {what}" for name, what in found["features"].items()]
    for name, split in found["splits"].items():
        lines += ["", f"{name}: {split['episodes']} episodes, {split['steps']} steps"]
        lines += [f"  trainable with the {found['spec']} row: {split['trainable']}"]
        lines += [f"  dropped, {reason}: {count}" for reason, count in split["dropped"].items()]
        texts = split["instructions"]
        lines += [f"  instructions: {len(texts)}", *(f"    {text!r}" for text in texts[:SHOWN])]
        lines += ["  " + "".join(f"{head:>11}" for head in _HEADS)]
        lines += ["  " + "".join(f"{cell:>11}" for cell in row) for row in _rows(split)]
        lines += [f"  warning: {name}: {what}" for name, what in split["warnings"]]
    lines += ["", *(f"warning: {leak}: held-out figures mean nothing" for leak in found["leaks"])]
    lines += ["", "proposed row (read it over, then put it into your config):"]
    return "\n".join([*lines, json.dumps(found["row"], indent=2)])


_HEADS = ("action", "mean", "std", "min", "q01", "q99", "max", "outside")


def _rows(split: dict[str, Any]) -> list[list[str]]:
    action, rows = split["action"], []
    for i, name in enumerate(split["dimensions"]):
        numbers = [action[key][i] for key in _HEADS[1:-1]]
        rows.append([name, *(f"{n:.4g}" for n in numbers), f"{split['outside_bounds'][i]:.1%}"])
    return rows


def as_html(found: dict[str, Any]) -> str:
    """The report as one page, with frames from episodes spread over the first split."""
    name = html.escape(f"{found['name']} {found['version']}")
    frames = "".join(
        f"<figure><img src='data:image;base64,{base64.b64encode(data).decode()}'>"
        f"<figcaption>{html.escape(text)}</figcaption></figure>"
        for data, text in _frames(found)
    )
    return (
        f"<!doctype html><meta charset=utf-8><title>{name}</title><style>"
        "body{font:15px sans-serif;margin:2em auto;max-width:75em}"
        "figure{display:inline-block;width:11em;margin:.5em;vertical-align:top}img{width:100%}figcaption{font-size:.8em}</style>"
        f"<h1>{name}</h1>{frames}<pre>{html.escape(as_text(found))}</pre>"
    )


def _frames(found: dict[str, Any]) -> list[tuple[bytes, str]]:
    steps = RldsSteps(found["directory"], next(iter(found["splits"])))
    row = found["row"]
    starts = steps.split.column("episode.first")
    picked = np.unique(np.linspace(0, len(starts) - 2, SHOWN).astype(int))
    middles = [int(starts[e] + starts[e + 1]) // 2 for e in picked]
    return [
        (steps.encoded(row["camera"], i), steps.value(row["instruction"], i).decode())
        for i in middles
    ]


def main() -> None:
    """Prints the report of a data set; writes it as JSON and as a page where asked."""
    parser = argparse.ArgumentParser(prog="python -m rt2.data.inspect", description=main.__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--spec", help="a row of rt2.data.specs instead of the proposed one")
    parser.add_argument("--json", type=Path, help="write the report as JSON")
    parser.add_argument("--html", type=Path, help="write the report as a page")
    args = parser.parse_args()
    try:
        found = report(args.directory, args.spec)
    except DataError as error:
        sys.exit(f"error: {error}")
    print(as_text(found))
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")
    if args.html:
        args.html.write_text(as_html(found))


if __name__ == "__main__":
    main()
