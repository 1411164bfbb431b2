"""Makes the small pre-trained start from the web shards alone.

    python experiments/pretrain/run.py            stage 0: towers.safetensors; a quarter of an hour
    python experiments/pretrain/run.py --stage-1  goes on with the encoder-decoder, in the workdir
    python experiments/pretrain/run.py --quick    a minute: proves that both stages run

Stage 1, when it was cut off, goes on where it was when it is started again.
"""

import argparse
import datetime
import json
import logging
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(HERE)]

import jax  # noqa: E402
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

log = logging.getLogger("pretrain")


def main() -> None:
    """Collect, stage 0, stage 1, figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, default=ROOT / "runs" / "pretrain")
    parser.add_argument("--stage-1", action="store_true")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args.workdir.mkdir(parents=True, exist_ok=True)
    config = make_config(args.workdir, args.quick)
    collect(args.workdir / "data", args.quick)
    begin = args.workdir / "towers.safetensors"
    if not begin.exists():
        stage_0(config, args.workdir, begin, args.quick)
        if not args.quick:
            for name in ("towers.safetensors", "towers.jsonl"):
                shutil.copyfile(args.workdir / name, HERE / name)
    if args.stage_1 or args.quick:
        config.init_from = str(begin)
        loop.train(config, args.workdir)
        write(args.workdir, measure(args.workdir))


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


def measure(workdir: pathlib.Path) -> list[dict]:
    """Exact match by kind and language on the held-out scenes."""
    policy = Policy.load(workdir)
    examples = inputs.WebExamples(workdir / "data/web_vqa/1.0.0", "validation")
    answered = list(vqa.ask(policy, examples, batch=64))
    rows = []
    for row in vqa.summarise(answered):
        rate, name = row["exact"], f"vqa/{row['kind']}/{row['language']}"
        rows.append({"name": name, "ours": rate.value, "n": rate.n, "interval": rate.interval})
    return rows


def write(workdir: pathlib.Path, rows: list[dict]) -> None:
    """tiny.safetensors and results.json in `workdir`."""
    folder = checkpoint.find(workdir)
    assets = checkpoint.read_json(folder, "assets")
    model = loop.Model.from_json(assets["model"])
    params = checkpoint.read_params(folder, model)
    start.write_safetensors(workdir / "tiny.safetensors", params, assets)
    origin = {"commit": commit(), "machine": machine(), "date": datetime.date.today().isoformat()}
    shared = {"peer": None, "ratio": None, "unit": "exact match", **origin}
    (workdir / "results.json").write_text(json.dumps([row | shared for row in rows], indent=1))
    for row in rows:
        log.info("%s: %.3f (n = %d)", row["name"], row["ours"], row["n"])


if __name__ == "__main__":
    jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
    main()
