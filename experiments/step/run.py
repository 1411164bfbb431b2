"""The trainer's step against the same model, optimizer and batches in PyTorch, on the CPU.

    python experiments/step/run.py --peer-python=PATH    on idle cores, writes results.json
    python experiments/step/run.py --quick               under a minute, prints only

PATH is the Python of an environment with torch and transformers (extra `oracle`) and safetensors.
Every measurement is a process of its own, in the order A-B-A-B. Rows: see README.md.
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
sys.path[:0] = [str(ROOT), str(HERE)]

from sizes import SIZES  # noqa: E402

from experiments import results  # noqa: E402
from rt2.evaluate import provenance  # noqa: E402

# Of both sides: large pages, which spare the kernel most of the clearing of fresh memory, and one
# heap that gives back what it frees, so that the peak is what is in use and not the heap's holes.
HEAP = ("hugetlb=1", "arena_max=1", "mmap_threshold=4194304")
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "GLIBC_TUNABLES": ":".join(f"glibc.malloc.{setting}" for setting in HEAP),
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / "runs" / "step" / "cache"),
}
SAME_LOSS = 1e-3  # largest relative difference of the sides' losses over all steps


def measure(python: str, script: str, *arguments: object) -> dict:
    """Runs one side in a fresh process and returns its figures."""
    command = [python, str(HERE / script), *map(str, arguments)]
    environment = os.environ | ENVIRONMENT
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compete(
    name: str, weights: Path, args: argparse.Namespace
) -> tuple[dict[str, list[dict]], list[dict]]:
    """Figures of every round by side, the sides in turn, and what jax's products took."""
    sides = {"ours": (sys.executable, "ours.py", "train")}
    sides |= {mode: (args.peer_python, "peer.py", mode) for mode in args.modes}
    runs: dict[str, list[dict]] = {side: [] for side in sides}
    products = []
    length = ("--warmup", args.warmup, "--steps", args.steps)
    for number in range(args.rounds):
        for side, command in sides.items():
            figures = measure(*command, name, weights, *length)
            runs[side].append(figures)
            seconds = statistics.median(figures["seconds"])
            print(
                f"{name} round {number} {side:9} {seconds:.3f} s, {figures['peak_rss_mb']:.0f} MB"
            )
        products.append(measure(sys.executable, "ours.py", "products", name, weights))
    return runs, products


def rows(name: str, runs: dict[str, list[dict]], flops: float, products: list[dict]) -> list[dict]:
    """A row a figure and peer; `ratio` above 1 is in our favour."""
    size = SIZES[name]
    rates = {
        side: [size.rows / seconds for run in r for seconds in run["seconds"]]
        for side, r in runs.items()
    }
    # of the last round alone, whose programs come from the caches of both sides
    memory = {side: [r[-1]["peak_rss_mb"]] for side, r in runs.items()}
    for side, r in runs.items():
        if r[-1]["start_peak_rss_mb"] >= memory[side][0]:
            sys.exit(f"{name} {side}: loading took more memory than the step; nothing is shown")
    found = []
    for peer in [side for side in runs if side != "ours"]:
        for key, unit, values, better in (
            ("examples_per_s", "examples/s", rates, 1),
            ("peak_rss_mb", "MB", memory, -1),
        ):
            mine, theirs = (statistics.median(values[side]) for side in ("ours", peer))
            spread = {side: [min(values[side]), max(values[side])] for side in ("ours", peer)}
            found.append(
                row(f"{name}_{key}_vs_{peer}", mine, theirs, (mine / theirs) ** better, unit)
                | {"n": len(values["ours"]), "interval": spread}
            )
        apart = max(
            abs(a / b - 1)
            for a, b in zip(runs["ours"][0]["losses"], runs[peer][0]["losses"], strict=True)
        )
        found.append(
            row(f"{name}_largest_loss_difference_vs_{peer}", apart, None, None, "relative")
        )
        if apart > SAME_LOSS:
            sys.exit(f"{name}: the losses are {apart:.1e} apart: this is not the same work")
    step = size.rows / statistics.median(rates["ours"])
    return found + product_rows(name, step, flops, products)


def product_rows(name: str, step: float, flops: float, products: list[dict]) -> list[dict]:
    """The step's `flops` and `step` seconds against what jax's own products took, each alone."""
    found, alone = [], 0.0
    for shape in products[0]["plain"]:
        speed = statistics.median(one["plain"][shape] for one in products)
        reached = flops / step / 1e9
        found.append(
            row(f"{name}_gflops_vs_product_{shape}", reached, speed, reached / speed, "GFLOP/s")
        )
    for form, first in products[0]["own"].items():
        seconds = statistics.median(one["own"][form]["seconds"] for one in products)
        speed = first["gflop"] / seconds
        alone += seconds
        share = seconds / step
        found.append(row(f"{name}_products_alone_{form}", speed, None, share, "GFLOP/s"))
    found.append(row(f"{name}_seconds_vs_products_alone", step, alone, alone / step, "s"))
    return found


def row(name: str, ours: float, peer: float | None, ratio: float | None, unit: str) -> dict:
    """A result row without its spread and stamp."""
    values = {"ours": ours, "peer": peer, "ratio": ratio}
    plain = {key: None if v is None else float(f"{v:.4g}") for key, v in values.items()}
    print(f"{name:55} {plain} {unit}", flush=True)
    return {"name": name, **plain, "unit": unit, "n": None, "interval": None}


def tables(rows: results.Rows) -> list[str]:
    """The README's tables."""
    return [sides_table(rows), products_table(rows)]


def sides_table(rows: results.Rows) -> str:
    """Each size against its peers."""
    peers = ["eager PyTorch", "compiled"]
    heads = ["size", "examples/s", *peers, "peak MB", *peers, "share of a product's speed"]
    lines = []
    for name in [name for name in SIZES if f"{name}_examples_per_s_vs_eager" in rows]:
        line = [f"`{name}`"]
        for key in ("examples_per_s", "peak_rss_mb"):
            against = [rows[f"{name}_{key}_vs_{mode}"] for mode in ("eager", "compiled")]
            line.append(f"{against[0]['ours']:,}")
            line += [f"{one['peer']:,} ({one['ratio']:.2f}x)" for one in against]
        shares = [
            one["ratio"] for key, one in rows.items() if key.startswith(f"{name}_gflops_vs_product")
        ]
        lines.append([*line, f"{min(shares):.0%} to {max(shares):.0%}"])
    return results.markdown(heads, lines)


def products_table(rows: results.Rows) -> str:
    """What jax's own products would take of each size's step."""
    forms = ["A B", "A B^T", "A^T B", "attention"]
    heads = ["size", *(f"`{form}`" if "A" in form else form for form in forms), "all products"]
    lines = []
    for name in [name for name in SIZES if f"{name}_seconds_vs_products_alone" in rows]:
        found = [rows[f"{name}_products_alone_{form}"] for form in forms]
        line = [f"{one['ours']:.0f} GFLOP/s, {one['ratio']:.0%}" for one in found]
        whole = rows[f"{name}_seconds_vs_products_alone"]
        lines.append([f"`{name}`", *line, f"{whole['ratio']:.0%} of the step"])
    return results.markdown(heads, lines)


def main() -> None:
    """Measures every size and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a toy size, one round, no file")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "small", "base"])
    parser.add_argument("--modes", nargs="*", default=["eager", "compiled"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--weights", type=Path, default=ROOT / "runs" / "step")
    args = parser.parse_args()
    if args.quick:
        args.sizes, args.modes, args.rounds = ["debug"], ["eager"], 1
    args.weights.mkdir(parents=True, exist_ok=True)
    stamp = {"commit": provenance.commit(), "machine": provenance.machine()}
    stamp["date"] = datetime.date.today().isoformat()
    found = []
    for name in args.sizes:
        weights = args.weights / f"{name}.safetensors"
        if not weights.exists():
            measure(sys.executable, "ours.py", "write", name, weights)
        flops = measure(sys.executable, "ours.py", "flops", name, weights)["flops"]
        runs, products = compete(name, weights, args)
        found += [one | stamp for one in rows(name, runs, flops, products)]
        if not args.quick:
            results.keep(HERE, found, tables)


if __name__ == "__main__":
    main()
