"""Index + loader against a tf.data pipeline in Octo's order, on one RLDS set.

    python experiments/loader/run.py            25 minutes on 2 idle cores, writes results.json
    python experiments/loader/run.py --quick    under a minute, prints only

Both decode 256x320 JPEGs and shrink them to 224x224, antialiased, on the same number of threads.
Ours shuffles globally through the index and resizes bilinearly; tf.data flattens the steps,
shuffles encoded frames in a buffer, decodes, resizes (bilinearly as ours; by lanczos3 as Octo does;
by area, its fastest) and batches. Every measurement is a process of its own, in the order
A-B-A-B; a figure is the median of the rounds, its interval the smallest and the largest.

Then ours alone: against decoding and resizing images that lie in memory (the machine's limit), on
one core against two, and the growth of its memory over 5,000 batches.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from rt2.evaluate import provenance  # noqa: E402

METHODS = ("bilinear", "lanczos3", "area")  # of tf.image.resize, antialiased; the first is ours
METRICS = {  # name: (unit, whether more is better)
    "examples_per_s": ("examples/s", True),
    "cpu_ms_per_example": ("ms", False),
    "peak_rss_mb": ("MB", False),
    "first_batch_s": ("s", False),
}


def measure(side: str, data: Path, args: argparse.Namespace, **changed: int) -> dict[str, float]:
    """Runs one side in a fresh process and returns its figures; `changed` overrides `args`."""
    names = ("threads", "seconds", "batch_size", "buffer", "batches")
    settings = {name: getattr(args, name) for name in names} | changed
    command = [sys.executable, str(HERE / "sides.py"), side, str(data)]
    command += [f"--{name}={value}" for name, value in settings.items()]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compete(data: Path, method: str, buffer: int, args, stamp: dict[str, str]) -> list[dict]:
    """Rows of ours against tf.data with one kernel and one buffer, A-B-A-B."""
    ours, peer = [], []
    for number in range(args.rounds):
        for side, runs in (("ours", ours), (f"tfdata:{method}", peer)):
            runs.append(measure(side, data, args, buffer=buffer))
            print(f"round {number}: {side:15} buffer {buffer} {runs[-1]}", flush=True)
    return rows(f"{method}_{buffer}", ours, peer, stamp)


def limits(data: Path, args: argparse.Namespace, stamp: dict[str, str]) -> list[dict]:
    """Rows of ours against the machine's limit, and on one core against all."""
    sides = {"ours": ("ours", args.threads), "limit": ("limit", args.threads), "one": ("ours", 1)}
    runs: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(args.rounds):
        for name, (side, threads) in sides.items():
            runs[name].append(measure(side, data, args, threads=threads)["examples_per_s"])
            print(f"round {number}: {name:15} {runs[name][-1]}", flush=True)
    found = []
    for name, peer, scale in (("limit", "limit", 1), ("cores", "one", args.threads)):
        ours = statistics.median(runs["ours"])
        theirs = statistics.median(runs[peer]) * scale
        row = {"name": f"examples_per_s_vs_{name}", "ours": ours, "peer": theirs}
        row |= {"ratio": round(ours / theirs, 3), "unit": "examples/s", "n": args.rounds}
        spread = {key: [min(runs[k]), max(runs[k])] for key, k in (("ours", "ours"), (peer, peer))}
        found.append(row | {"interval": spread} | stamp)
    return found


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


def alone(name: str, unit: str, runs: list[float], stamp: dict[str, str]) -> dict:
    """A row of a figure that has no peer."""
    print(f"{name}: {runs}", flush=True)
    middle = round(statistics.median(runs), 1)
    row = {"name": name, "ours": middle, "peer": None, "ratio": None, "unit": unit}
    return row | {"n": len(runs), "interval": {"ours": [min(runs), max(runs)]}} | stamp


def stamped() -> dict:
    """Commit, machine and date of a run."""
    today = datetime.date.today().isoformat()
    return {"commit": provenance.commit(), "machine": provenance.machine(), "date": today}


def main() -> None:
    """Generates the data where missing, measures in turn, prints and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small set, one round, no file")
    parser.add_argument("--data", type=Path, default=ROOT / "runs" / "loader")
    parser.add_argument("--steps", type=int, default=16_000, help="steps in the set")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of one measurement")
    parser.add_argument("--buffer", type=int, default=10_000, help="tf.data's shuffle buffer")
    parser.add_argument("--large-buffer", type=int, default=100_000, help="another, once")
    parser.add_argument("--batches", type=int, default=5_000, help="over which memory may grow")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batch-size", type=int, default=256)
    args = parser.parse_args()
    if args.quick:
        args.steps, args.rounds, args.seconds, args.buffer = 1_200, 1, 3.0, 1_000
        args.large_buffer, args.batches = 2_000, 20
    data = args.data / str(args.steps)
    if not (data / "frames" / "1.0.0" / "dataset_info.json").is_file():
        print(f"writing {args.steps} steps to {data}", flush=True)
        measure(f"generate:{args.steps}", data, args)
    stamp = stamped()
    index = [measure("index", data, args)["mb_per_s"] for _ in range(args.rounds)]
    found = [alone("index_mb_per_s", "MB/s", index, stamp)]
    for method in METHODS[:1] if args.quick else METHODS:
        found += compete(data, method, args.buffer, args, stamp)
    found += compete(data, METHODS[0], args.large_buffer, args, stamp)
    found += limits(data, args, stamp)
    growth = [measure("growth", data, args, batch_size=64)["rss_growth_mb"]]
    found.append(alone(f"rss_growth_mb_{args.batches}_batches", "MB", growth, stamp))
    for row in found:
        print(f"{row['name']:36} ours {row['ours']}  peer {row['peer']}  ratio {row['ratio']}")
    if not args.quick:
        (HERE / "results.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
