"""Makes the small pre-trained start: tiny.safetensors, its log and its VQA figures.

    python experiments/pretrain/run.py            about an hour on two cores
    python experiments/pretrain/run.py --quick    a minute: proves that every stage runs

A run that was cut off goes on where it was when it is started again.
"""

import argparse
import datetime
import json
import logging
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(HERE)]

import jax  # noqa: E402
import numpy as np  # noqa: E402
import towers  # noqa: E402

from configs import pretrain_tabletop  # noqa: E402
from rt2 import checkpoint  # noqa: E402
from rt2.evaluate import vqa  # noqa: E402
from rt2.evaluate.provenance import commit, machine  # noqa: E402
from rt2.inference.policy import Policy  # noqa: E402
from rt2.train import inputs, loop, start  # noqa: E402

SCENES = 100_000
STAGE_0 = {"steps": 1200, "batch_size": 256, "learning_rate": 2e-3}
SEED = 0
OUT = HERE / "tiny.safetensors"

log = logging.getLogger("pretrain")


def main() -> None:
    """Collect, stage 0, stage 1, figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, default=ROOT / "runs" / "pretrain")
    parser.add_argument("--quick", action="store_true", help="a few steps; writes no result here")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args.workdir.mkdir(parents=True, exist_ok=True)
    config = make_config(args.workdir, args.quick)
    collect(args.workdir / "data", args.quick)
    begin = args.workdir / "towers.safetensors"
    if not begin.exists():
        stage_0(config, args.workdir, begin, args.quick)
    config.init_from = str(begin)
    loop.train(config, args.workdir)
    rows = measure(args.workdir, args.quick)
    write(args.workdir, rows, args.quick)


def make_config(workdir: pathlib.Path, quick: bool):
    """configs/pretrain_tabletop.py on the data of this run."""
    config = pretrain_tabletop.get_config()
    config.seed = SEED
    config.sources.web.path = str(workdir / "data/web/web-train-*.tar")
    config.eval_sources.vqa.path = str(workdir / "data/web_vqa/1.0.0")
    if quick:
        config.num_steps, config.batch_size, config.eval_rows = 4, 16, 32
    return config


def collect(out: pathlib.Path, quick: bool) -> None:
    """The web shards; the robot episodes that come with them are not read."""
    scenes = 400 if quick else SCENES
    command = [sys.executable, "-m", "rt2.sim.collect", f"--out={out}", f"--scenes={scenes}"]
    counts = ["--episodes=2", "--val-episodes=1", f"--val-scenes={40 if quick else 500}"]
    subprocess.run([*command, *counts, f"--seed={SEED}"], check=True, cwd=ROOT)


def stage_0(config, workdir: pathlib.Path, out: pathlib.Path, quick: bool) -> None:
    """Vision tower and embeddings: see towers.py."""
    sources = inputs.open_sources(config, "sources")
    preprocess = start.make_preprocess(config, sources, workdir)
    model = loop.make_model(config, preprocess)
    patches = model.config.vision.image_size // model.config.vision.patch
    rows = towers.ListRows(sources["web"].examples, preprocess, patches)
    log.info("stage 0: %d rows that list objects, %d names", len(rows), len(rows.names))
    path = workdir / "towers.jsonl"
    with path.open("w") as file:

        def report(step: int, figures: dict[str, float]) -> None:
            file.write(json.dumps({"step": step, **figures}) + "\n")
            file.flush()
            log.info("stage 0, step %d: %s", step, figures)

        settings = STAGE_0 | ({"steps": 4, "batch_size": 16} if quick else {})
        params = towers.train_towers(model, rows, seed=SEED, report=report, **settings)
    assets = {
        "format": checkpoint.FORMAT,
        "model": model.to_json(),
        "preprocess": preprocess.to_json(),
    }
    start.write_safetensors(out, params, assets)


def measure(workdir: pathlib.Path, quick: bool) -> list[dict]:
    """Exact match by kind and language on the held-out scenes."""
    policy = Policy.load(workdir)
    examples = inputs.WebExamples(workdir / "data/web_vqa/1.0.0", "validation")
    answered = list(vqa.ask(policy, examples, batch=64))
    rows = []
    for row in vqa.summarise(answered):
        name = f"vqa/{row['kind']}/{row['language']}"
        rate = row["exact"]
        rows.append(
            {"name": name, "ours": rate.value, "n": rate.n, "interval": list(rate.interval)}
        )
    where = [a.distance for a in answered if a.distance is not None]
    near = float(np.mean(np.array(where) <= 3))
    rows.append({"name": "vqa/where/within 3 cells", "ours": near, "n": len(where)})
    return rows


def write(workdir: pathlib.Path, rows: list[dict], quick: bool) -> None:
    """tiny.safetensors, log.jsonl and results.json; in `workdir` for a quick run."""
    out = workdir if quick else HERE
    folder = checkpoint.find(workdir)
    assets = checkpoint.read_json(folder, "assets")
    model = loop.Model.from_json(assets["model"])
    start.write_safetensors(out / OUT.name, checkpoint.read_params(folder, model), assets)
    curves = (workdir / "towers.jsonl").read_text() + (workdir / "metrics.jsonl").read_text()
    (out / "log.jsonl").write_text(curves)
    origin = {"commit": commit(), "machine": machine()}
    empty = {"peer": None, "ratio": None, "unit": "rate", "interval": None}
    date = datetime.date.today().isoformat()
    full = [{**empty, **row, **origin, "date": date} for row in rows]
    (out / "results.json").write_text(json.dumps(full, indent=1) + "\n")
    for row in rows:
        log.info("%s: %.3f (n = %d)", row["name"], row["ours"], row["n"])


if __name__ == "__main__":
    jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
    main()
