"""What narrow weights save and cost, and whether a bundle needs and trusts nothing else.

    python experiments/bundle/run.py --checkpoint=runs/tabletop    writes results.json
    python experiments/bundle/run.py --checkpoint=... --quick      two minutes, prints only

The checkpoint is one of `make train`, with the examples that the trainer keeps beside it. Rows: see
README.md.
"""

import argparse
import datetime
import io
import json
import math
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from experiments import results  # noqa: E402
from rt2.evaluate.provenance import commit, machine  # noqa: E402
from rt2.evaluate.statistics import Mean, Rate  # noqa: E402
from rt2.inference import bundle_runtime  # noqa: E402
from rt2.inference.policy import Policy  # noqa: E402
from rt2.models import quantise  # noqa: E402
from rt2.sim.demonstrations import demonstrate  # noqa: E402

SEED = 2  # of the fresh episodes; `make train` has 0, and the rounding was chosen on those of 1
KINDS = ("f32", "bf16", "int8")
QUESTIONS = 500


def fresh(steps: int) -> tuple[list[dict], list[str], np.ndarray]:
    """Observations, what each episode is about, and the oracle's actions [N, 2] in metres."""
    asked, targets, wanted = [], [], []
    index = 0
    while len(asked) < steps:
        episode = demonstrate(SEED, "val", index, "reach", objects=(3,), image_size=64)
        index += 1
        for step in episode.steps[:-1]:
            image = np.asarray(Image.open(io.BytesIO(step.rgb)))
            asked.append({"image": image, "instruction": episode.instruction})
            targets.append(episode.target)
            wanted.append(step.action)
    return asked, targets, np.array(wanted)


def export(checkpoint: Path, folder: Path) -> dict[str, Path]:
    """A bundle of each kind of weights."""
    bundles = {}
    for kind in KINDS:
        bundles[kind] = folder / kind
        command = ["-m", "rt2.inference.export", f"--checkpoint={checkpoint}"]
        command += [f"--out={bundles[kind]}", f"--weights={kind}"]
        subprocess.run([sys.executable, *command], cwd=HERE.parents[1], check=True)
    return bundles


def size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(file.stat().st_size for file in folder.iterdir())


def decoded(bundle: Path, asked: list[dict], questions: list[dict]) -> dict:
    """Tokens and actions of the observations, and the answers."""
    policy = bundle_runtime.Policy.load(bundle)
    made = policy.infer_batch(asked)
    return {
        "tokens": np.stack([reply["tokens"] for reply in made]),
        "actions": np.concatenate([reply["actions"] for reply in made]),
        "answers": [reply["text"] for reply in policy.infer_batch(questions)],
    }


def plainly_rounded(checkpoint: Path, asked: list[dict]) -> np.ndarray:
    """Tokens of the observations, of int8 weights whose inputs are taken to matter alike."""
    policy = Policy.load(checkpoint)
    alike = {}
    for path, view in quantise.views(policy.model).items():
        inputs = math.prod(view.shape) // view.layers // view.outputs
        alike[path] = np.broadcast_to(np.eye(inputs), (view.layers, inputs, inputs))
    params = policy.model.apart(quantise.int8(policy.model, policy.params, alike))
    rounded = Policy(policy.model, params, policy.preprocess, policy.metadata)
    return np.stack([reply["tokens"] for reply in rounded.infer_batch(asked)])


def environment(bundle: Path, folder: Path) -> tuple[Path, int]:
    """The Python of a new environment with what the bundle names; how many packages it has."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "-r", bundle / "requirements.txt"], check=True)
    listed = subprocess.run([*pip, "list", "--format=json"], check=True, capture_output=True)
    names = {package["name"] for package in json.loads(listed.stdout)} - {"pip", "setuptools"}
    return python, len(names)


def measure(args: argparse.Namespace, folder: Path) -> list[dict]:
    """All rows."""
    bundles = export(args.checkpoint.resolve(), folder)
    asked, targets, wanted = fresh(args.steps)
    questions = [
        {"image": a["image"], "instruction": f"Answer in en : where is the {t}", "mode": "vqa"}
        for a, t in list(zip(asked, targets, strict=True))[: args.questions]
    ]
    found = {kind: decoded(bundles[kind], asked, questions) for kind in KINDS}
    here = machine()
    stamp = {
        "commit": commit(),
        "machine": f"{here['cpu']}, {here['cores']} cores",
        "date": datetime.date.today().isoformat(),
    }

    def row(name, ours, unit, n, interval=None, peer=None) -> dict:
        ratio = None if peer is None else ours / peer
        figures = {"ours": ours, "peer": peer, "ratio": ratio, "unit": unit, "n": n}
        return {"name": name, **figures, "interval": interval and list(interval), **stamp}

    rows, whole = [], found["f32"]
    error = {kind: Mean.of(1e3 * np.abs(found[kind]["actions"] - wanted).ravel()) for kind in KINDS}
    for kind in KINDS:
        sizes = [size(bundles[one]) / 1e6 for one in (kind, "f32")]
        rows.append(row(f"{kind}/size", sizes[0], "MB", 1, peer=sizes[1]))
        mean, peer = error[kind], error["f32"].value
        rows.append(row(f"{kind}/action error", mean.value, "mm", mean.n, mean.interval, peer))
    for kind in KINDS[1:]:
        same = Rate.of((found[kind]["tokens"] == whole["tokens"]).ravel())
        rows.append(row(f"{kind}/token agreement", same.value, "", same.n, same.interval))
        moved = Mean.of(1e3 * np.abs(found[kind]["actions"] - whole["actions"]).ravel())
        rows.append(row(f"{kind}/action change", moved.value, "mm", moved.n, moved.interval))
        pairs = zip(found[kind]["answers"], whole["answers"], strict=True)
        alike = Rate.of(ours == theirs for ours, theirs in pairs)
        rows.append(row(f"{kind}/answers alike", alike.value, "", alike.n, alike.interval))
    plain = Rate.of((plainly_rounded(args.checkpoint, asked) == whole["tokens"]).ravel())
    name = "int8, every value to the nearest/token agreement"
    rows.append(row(name, plain.value, "", plain.n, plain.interval))
    if not args.quick:
        python, packages = environment(bundles["int8"], folder / "env")
        rows.append(row("fresh environment/packages", packages, "packages", 1))
    else:
        python = sys.executable
    moved_away = shutil.copytree(bundles["int8"], folder / "elsewhere" / "bundle")
    run = {"cwd": moved_away.parent, "check": True, "capture_output": True, "text": True}
    checked = subprocess.run([python, "-I", moved_away / "bundle.py"], **run).stdout
    rows.append(row("fresh environment/golden replies agree", int("intact" in checked), "", 1))
    flips = subprocess.run([python, "-I", HERE / "flips.py", moved_away, str(args.flips)], **run)
    for file, (refused, n) in json.loads(flips.stdout).items():
        rows.append(row(f"flips refused/{file}", refused, "flips", n))
    return rows


def tables(rows: results.Rows) -> list[str]:
    """Sizes and losses; the flips."""
    lines = []
    for kind in KINDS:
        large, error = rows[f"{kind}/size"], rows[f"{kind}/action error"]
        cells = [kind, f"{large['ours']:.2f} MB", f"{large['ratio']:.1%}"]
        cells += [share(rows.get(f"{kind}/token agreement")), interval(error, 2) + " mm"]
        moved = rows.get(f"{kind}/action change")
        cells += ["" if moved is None else interval(moved, 3) + " mm"]
        lines.append([*cells, share(rows.get(f"{kind}/answers alike"))])
    plain = share(rows["int8, every value to the nearest/token agreement"])
    lines.append(["int8, every value to the nearest", "", "", plain, "", "", ""])
    heads = ["weights", "folder", "of f32's", "tokens as with f32", "error against the oracle"]
    heads += ["change of an action", "answers as with f32"]
    flips = {n.split("/")[1]: r for n, r in rows.items() if n.startswith("flips")}
    refused = [[name, f"{r['ours']} of {r['n']}"] for name, r in flips.items()]
    return [results.markdown(heads, lines), results.markdown(["file", "flips refused"], refused)]


def share(row: dict | None) -> str:
    """A rate in per cent with its interval and count."""
    if row is None:
        return ""
    low, high = (100 * bound for bound in row["interval"])
    return f"{100 * row['ours']:.2f} % ({low:.2f} - {high:.2f}, n = {row['n']})"


def interval(row: dict, digits: int) -> str:
    """A mean with its interval."""
    low, high = row["interval"]
    return f"{row['ours']:.{digits}f} ({low:.{digits}f} - {high:.{digits}f})"


def main() -> None:
    """Exports, decodes, installs, alters; prints and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="a workdir of make train")
    parser.add_argument("--quick", action="store_true", help="few of all, no environment, no file")
    args = parser.parse_args()
    args.steps, args.flips = (64, 2) if args.quick else (8000, 100)
    args.questions = 16 if args.quick else QUESTIONS
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(args, Path(folder))
    for row in rows:
        figure = f"{row['ours']:.6g} {row['unit']} (n = {row['n']})"
        print(f"{row['name']:44} {figure} {row['interval'] or ''}")
    if not args.quick:
        results.keep(HERE, rows, tables)
    bad = [row["name"] for row in rows if row["unit"] == "flips" and row["ours"] < row["n"]]
    if bad:
        sys.exit(f"loaded although altered: {', '.join(bad)}")


if __name__ == "__main__":
    main()
