"""How an index of 100 million steps opens and samples, beside one of a hundredth of that.

    python experiments/index_scale/run.py            about a minute, writes results.json
    python experiments/index_scale/run.py --quick    10 million steps, prints only

The index lies in sparse files (see simulate.py). Opening is `RldsSteps(directory, "train")` in a
fresh process, after its imports; a sample is one step with its image read and checked.
"""

import argparse
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from rt2.evaluate import provenance  # noqa: E402

SHARDS, SAMPLES, LIMIT = 1_024, 2_000, 40.0


def sampled_rows(steps: int) -> np.ndarray:
    """The rows that are real, sorted."""
    return np.unique(np.random.default_rng(0).integers(0, steps - steps % 16, SAMPLES))


def prepare(directory: Path, steps: int, shards: int) -> None:
    """Writes the simulated set where it is missing."""
    from simulate import scale, write_small

    if not (directory / "whole").is_file():
        shutil.rmtree(directory, ignore_errors=True)
        write_small(directory, shards)
        scale(directory, steps, sampled_rows(steps))
        (directory / "whole").touch()


def measure(directory: Path, steps: int) -> dict[str, float]:
    """Opens and samples in this process."""
    from simulate import EPISODE

    from rt2.data.rlds import RldsSteps

    rows = np.random.default_rng(1).permutation(sampled_rows(steps)).tolist()
    before = anonymous_mb()
    start = time.perf_counter()
    opened = RldsSteps(directory, "train", decode_images=False)
    opening = time.perf_counter() - start
    seconds = []
    for _ in range(2):  # the first time every page is mapped anew
        start = time.perf_counter()
        for row in rows:
            step = opened[row]
            episode, number = divmod(row, EPISODE)
            if (step["episode"], step["step"], step["reward"]) != (episode, number, number):
                sys.exit(f"step {row} is not the one that was written: {step}")
        seconds.append((time.perf_counter() - start) / len(rows))
    return {
        "open_s": opening,
        "first_sample_us": 1e6 * seconds[0],
        "sample_us": 1e6 * seconds[1],
        "memory_mb": anonymous_mb() - before,
        "bytes": opened.index.sidecar.bytes / len(opened),
    }


def anonymous_mb() -> float:
    """Memory of this process that is no mapped file, MB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").open())
    return int(status["RssAnon"].split()[0]) / 1024


def apart(directory: Path, steps: int) -> dict[str, float]:
    """`measure` in a fresh process."""
    command = [sys.executable, str(HERE / "run.py"), f"--measure={directory}", f"--steps={steps}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{directory} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def rows(large: list[dict], small: list[dict], steps: int) -> list[dict]:
    """Result rows; the peer of a figure is the index of a hundredth of the steps."""
    units = {"open_s": "s", "first_sample_us": "us", "sample_us": "us", "memory_mb": "MB"}
    units["bytes"] = "bytes/step"
    found = []
    for name, unit in units.items():
        a, b = [run[name] for run in large], [run[name] for run in small]
        mine, theirs = statistics.median(a), statistics.median(b)
        row = {"name": f"{name}_{steps // 1_000_000}m_steps", "ours": round(mine, 4)}
        row |= {"peer": round(theirs, 4), "ratio": round(theirs / mine, 3) if mine else None}
        row |= {"unit": unit, "n": len(a), "interval": {"ours": [min(a), max(a)]}}
        found.append(row | stamped())
    return found


def stamped() -> dict:
    """Commit, machine and date of a run."""
    today = datetime.date.today().isoformat()
    return {"commit": provenance.commit(), "machine": provenance.machine(), "date": today}


def main() -> None:
    """Writes both sets, measures in turn, prints and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, no file")
    parser.add_argument("--data", type=Path, default=ROOT / "runs" / "index_scale")
    parser.add_argument("--steps", type=int, default=100_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.steps)))
        return
    steps = args.steps // 10 if args.quick else args.steps
    folders = {n: args.data / str(n) / "1.0.0" for n in (steps, steps // 100)}
    for number, folder in folders.items():
        prepare(folder, number, SHARDS if number == steps else SHARDS // 64)
    runs: dict[int, list[dict]] = {number: [] for number in folders}
    for _ in range(2 if args.quick else args.rounds):
        for number, folder in folders.items():
            runs[number].append(apart(folder, number))
    found = rows(runs[steps], runs[steps // 100], steps)
    for row in found:
        print(f"{row['name']:28} ours {row['ours']}  peer {row['peer']}  {row['unit']}")
    limits = {"open_s": 1.0, "bytes": LIMIT}
    for name, limit in limits.items():
        if statistics.median(run[name] for run in runs[steps]) > limit:
            sys.exit(f"{name} is above {limit}")
    if not args.quick:
        (HERE / "results.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
