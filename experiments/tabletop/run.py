"""What `make train` reaches on the embedded tabletop, as rows of results.json.

python experiments/tabletop/run.py                 runs `make train`
python experiments/tabletop/run.py --quick         a minute: the debug config, writes no result
python experiments/tabletop/run.py --finished=DIR  takes the evaluation of a finished workdir
"""

import argparse
import json
import pathlib
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent


def main() -> None:
    """Train, then turn evaluation.json into rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--finished", type=pathlib.Path)
    args = parser.parse_args()
    minutes = None
    workdir = args.finished or ROOT / "runs" / ("debug" if args.quick else "tabletop")
    if args.finished is None:
        config = "configs/debug.py" if args.quick else "configs/tabletop.py"
        began = time.monotonic()
        subprocess.run(["make", "train", f"CONFIG={config}"], cwd=ROOT, check=True)
        minutes = (time.monotonic() - began) / 60
    rows = make_rows(json.loads((workdir / "evaluation.json").read_text()), minutes)
    if not args.quick:
        (HERE / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['name']}: {row['ours']:.4g} {row['unit']} (n = {row['n']})")


def make_rows(evaluation: dict, minutes: float | None) -> list[dict]:
    """Success by policy, task and split; invalid actions; answers; action error."""
    origin = evaluation["provenance"]
    shared = {
        "peer": None,
        "ratio": None,
        "commit": origin["commit"],
        "machine": origin["machine"],
        "date": origin["date"],
    }

    def row(name: str, figure: dict | None, ours: float, unit: str, n: int | None) -> dict:
        interval = figure and figure["interval"]
        return {"name": name, "ours": ours, "unit": unit, "n": n, "interval": interval, **shared}

    rows = []
    for found in evaluation["rollouts"]:
        name = f"{found['task']}/{found['split']}/{found['policy']}"
        rate = found["success"]
        rows.append(row(name, rate, rate["rate"], "success rate", rate["n"]))
        invalid = f"{name}/invalid actions"
        rows.append(row(invalid, None, found["invalid"], "actions", found["actions"]))
    for found in evaluation["vqa"]:
        name, rate = f"vqa/{found['kind']}/{found['language']}", found["exact"]
        rows.append(row(name, rate, rate["rate"], "exact match", rate["n"]))
    for found in evaluation["actions"]:
        for slot in found["slots"]:
            error, name = slot["error"], f"l1/{found['source']}/{slot['name']}"
            rows.append(row(name, error, error["mean"], slot["unit"], error["n"]))
    if minutes is not None:
        rows.append(row("minutes of make train", None, minutes, "min", None))
    return rows


if __name__ == "__main__":
    main()
