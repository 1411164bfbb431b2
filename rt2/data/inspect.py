"""Shows what a robot data set holds and proposes its dataset spec row.

python -m rt2.data.inspect DIR [--spec=NAME] [--json=FILE] [--html=FILE] [--rerun=FILE.rrd]
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rt2.data import inspect_page, recording, storage
from rt2.data.errors import DataError
from rt2.data.survey import oddities, survey

SHOWN = 8  # instructions


def as_text(found: dict[str, Any]) -> str:
    """The survey for a terminal."""
    lines = [f"{found['name']} {found['version']}  {found['directory']}", "", "features"]
    lines += [f"  {name:40} {what}" for name, what in found["features"].items()]
    for name, split in found["splits"].items():
        lines += ["", *_split(name, split, found["spec"])]
    if odd := oddities(found):
        lines += ["", *(f"warning: {what}" for what in odd)]
    if found["shipped"] and found["python"]:
        lines += ["", f"a row of this name is shipped: --spec={found['name']} shows what it reads"]
    if found["python"]:
        lines += [
            "",
            "a config with the proposed row: read it over, save it as a file in configs/, train",
        ]
        lines += ["", found["python"].rstrip()]
    return "\n".join(lines)


def _split(name: str, split: dict[str, Any], spec: str) -> list[str]:
    lengths = split["lengths"]
    lines = [
        f"{name}: {split['episodes']} episodes of {lengths['min']} to {lengths['max']} steps "
        f"(median {lengths['median']:g}), {split['steps']} steps"
    ]
    if "refused" in split:
        return lines
    texts = split["instructions"]
    lines += [f"  trainable with the {spec} row: {split['trainable']}"]
    lines += [
        f"  dropped, {reason}: {count}" for reason, count in split["dropped"].items() if count
    ]
    lines += [f"  instructions: {len(texts)}"]
    lines += [f"  {row['episodes']:>6} episodes  {row['text']!r}" for row in texts[:SHOWN]]
    lines += [f"    and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
    lines += ["  " + "".join(f"{head:>11}" for head in (*_HEADS, "outside", "bins used"))]
    return lines + ["  " + "".join(f"{cell:>11}" for cell in row) for row in _rows(split)]


_HEADS = ("action", "mean", "std", "min", "q01", "q99", "max")


def _rows(split: dict[str, Any]) -> list[list[str]]:
    action, rows = split["action"], []
    for i, name in enumerate(split["dimensions"]):
        numbers = [action[key][i] for key in _HEADS[1:]]
        counts = split["bins"][i]["counts"]
        used = f"{sum(map(bool, counts))}/{len(counts)}"
        shown = [f"{n:.4g}" for n in numbers]
        rows.append([name, *shown, f"{split['outside_bounds'][i]:.1%}", used])
    return rows


def main() -> None:
    """Prints the survey of a data set; writes it as JSON, a page or a recording where asked."""
    parser = argparse.ArgumentParser(prog="python -m rt2.data.inspect", description=main.__doc__)
    parser.add_argument("directory", type=storage.at, help="folder or URL of one version")
    parser.add_argument("--spec", help="a row of rt2.data.specs instead of the proposed one")
    parser.add_argument("--json", type=Path, help="write the survey as JSON")
    parser.add_argument("--html", type=Path, help="write the survey as a page")
    parser.add_argument("--rerun", type=Path, help="write episodes as a rerun recording (.rrd)")
    args = parser.parse_args()
    try:
        found = survey(args.directory, args.spec)
        print(as_text(found))
        if args.json:
            args.json.write_text(json.dumps(found, indent=2) + "\n")
        if args.html:
            args.html.write_text(inspect_page.page(found), encoding="utf-8")
            print(f"\nwrote {args.html}")
        if args.rerun:
            recording.write(args.rerun, found)
            print(f"\nwrote {args.rerun}: rerun {args.rerun}")
    except DataError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
