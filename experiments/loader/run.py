"""Index + loader against a tf.data pipeline in Octo's order, on one RLDS set.

    python experiments/loader/run.py            10 minutes on 2 idle cores, writes results.json
    python experiments/loader/run.py --quick    under a minute, prints only

Both decode 256x320 JPEGs and shrink them to 224x224, antialiased, on the same number of threads.
Ours shuffles globally through the index and averages over area; tf.data flattens the steps,
shuffles encoded frames in a buffer, decodes, resizes (by area, its fastest; by a widened triangle;
by lanczos3 as Octo does) and batches. Every measurement is a process of its own, in the order
A-B-A-B; a figure is the median of the rounds, its interval the smallest and the largest.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
METHODS = ("area", "bilinear", "lanczos3")  # of tf.image.resize, antialiased; Octo's is lanczos3
METRICS = {  # name: (unit, whether more is better)
    "examples_per_s": ("examples/s", True),
    "cpu_ms_per_example": ("ms", False),
    "peak_rss_mb": ("MB", False),
    "first_batch_s": ("s", False),
}


def measure(side: str, data: Path, args: argparse.Namespace) -> dict[str, float]:
    """Runs one side in a fresh process and returns its figures."""
    command = [sys.executable, str(HERE / "sides.py"), side, str(data)]
    command += [f"--{name}={getattr(args, name)}" for name in ("threads", "seconds", "batch_size")]
    command += [f"--buffer={args.buffer}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def rows(method: str, ours: list[dict], peer: list[dict], stamp: dict[str, str]) -> list[dict]:
    """One result row a metric; `ratio` above 1 is in our favour."""
    found = []
    for name, (unit, more) in METRICS.items():
        a, b = [run[name] for run in ours], [run[name] for run in peer]
        mine, theirs = statistics.median(a), statistics.median(b)
        row = {
            "name": f"{name}_vs_{method}",
            "ours": round(mine, 3),
            "peer": round(theirs, 3),
            "ratio": round(mine / theirs if more else theirs / mine, 3),
            "unit": unit,
            "n": len(a),
            "interval": {"ours": [min(a), max(a)], "peer": [min(b), max(b)]},
        }
        found.append(row | stamp)
    return found


def index_row(data: Path, rounds: int, args: argparse.Namespace, stamp: dict[str, str]) -> dict:
    """Speed of the index pass on one core, in a process of its own; it has no peer."""
    runs = [measure("index", data, args)["mb_per_s"] for _ in range(rounds)]
    middle = round(statistics.median(runs), 1)
    row = {"name": "index_mb_per_s", "ours": middle, "peer": None, "ratio": None, "unit": "MB/s"}
    return row | {"n": rounds, "interval": {"ours": [min(runs), max(runs)]}} | stamp


def provenance() -> dict[str, str]:
    """Commit, machine and date of a run."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(": ")[1] if names else cpu
    date = datetime.date.today().isoformat()
    return {"commit": commit, "machine": f"{cpu}, {os.cpu_count()} cores", "date": date}


def main() -> None:
    """Generates the data where missing, measures in turn, prints and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small set, one round, no file")
    parser.add_argument("--data", type=Path, default=ROOT / "runs" / "loader")
    parser.add_argument("--steps", type=int, default=16_000, help="steps in the set")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of one measurement")
    parser.add_argument("--buffer", type=int, default=10_000, help="tf.data's shuffle buffer")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batch-size", type=int, default=256)
    args = parser.parse_args()
    if args.quick:
        args.steps, args.rounds, args.seconds, args.buffer = 1_200, 1, 5.0, 1_000
    data = args.data / str(args.steps)
    if not (data / "frames" / "1.0.0" / "dataset_info.json").is_file():
        print(f"writing {args.steps} steps to {data}", flush=True)
        measure(f"generate:{args.steps}", data, args)
    stamp = provenance()
    found = [index_row(data, args.rounds, args, stamp)]
    for method in METHODS[:1] if args.quick else METHODS:
        ours, peer = [], []
        for number in range(args.rounds):
            for side, runs in (("ours", ours), (f"tfdata:{method}", peer)):
                runs.append(measure(side, data, args))
                print(f"round {number}: {side:15} {runs[-1]}", flush=True)
        found += rows(method, ours, peer, stamp)
    for row in found:
        print(f"{row['name']:28} ours {row['ours']}  peer {row['peer']}  ratio {row['ratio']}")
    if not args.quick:
        (HERE / "results.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
