"""Makes the small pre-trained start from the web shards alone.

    python experiments/pretrain/run.py            an hour and a half on two cores
    python experiments/pretrain/run.py --quick    two minutes: proves that it runs, keeps nothing

--init=FILE goes on from an earlier result, without the first part; --variant=mini makes another
size. A run that was stopped goes on with the part that it was in: take another --workdir for
another run.

Collects 100,000 pictures, then trains in five parts: grounding.py (names alone, then names and
descriptions among other words) and answering.py (places, then all rows of the web, by the decoder
alone; then all together).
"""

import argparse
import datetime
import functools
import json
import logging
import pathlib
import shutil
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(HERE)]

import answering  # noqa: E402
import grounding  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import ml_collections  # noqa: E402

from configs import tabletop  # noqa: E402
from rt2 import checkpoint  # noqa: E402
from rt2.data.vqa import WebExamples  # noqa: E402
from rt2.evaluate import vqa  # noqa: E402
from rt2.evaluate.provenance import commit, machine  # noqa: E402
from rt2.inference.policy import Policy, describe  # noqa: E402
from rt2.models.build import Model, Params  # noqa: E402
from rt2.models.weights import own  # noqa: E402
from rt2.models.weights.load import load  # noqa: E402
from rt2.preprocess import Preprocess  # noqa: E402
from rt2.train import start  # noqa: E402
from rt2.train.settings import make_model  # noqa: E402
from rt2.train.sources import open_sources  # noqa: E402

SCENES = 100_000
SHOWN = ("--descriptions", "--web-objects=6")
SEED = 0

log = logging.getLogger("pretrain")


def main() -> None:
    """Collect, train, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, default=ROOT / "runs" / "pretrain")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--variant", default="tiny", choices=("tiny", "mini"))
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="folder of what is kept")
    parser.add_argument("--init", default="", help="weights to go on from after the first part")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    args.workdir.mkdir(parents=True, exist_ok=True)
    collect(args)
    config = make_config(args)
    sources = open_sources(config, "sources")
    preprocess = start.make_preprocess(config, sources, args.workdir)
    model = make_model(config, preprocess.tokenizer.size)
    params = train(config, model, preprocess, sources["web"].examples, args)
    assets = describe_model(model, preprocess)
    weights = f"{args.variant}.safetensors"
    own.write_file(args.workdir / weights, params, assets, jnp.bfloat16)
    known = {**assets, "config": {"sources": {}}, "eval": {}, "step": 0}
    metadata = describe(preprocess, known)
    measure(args.workdir, Policy(model, params, preprocess, metadata))
    if not args.quick:
        args.out.mkdir(exist_ok=True)
        for name in (weights, "log.jsonl", "results.json"):
            shutil.copyfile(args.workdir / name, args.out / name)


def make_config(args: argparse.Namespace) -> ml_collections.ConfigDict:
    """configs/tabletop.py on the web shards of this run, with the tokenizer of --init if any."""
    config = tabletop.get_config()
    config.init_from = args.init
    config.prefix_length, config.target_length = 40, 56  # six things in a list
    config.model.variant = args.variant
    config.seed = SEED
    config.sources.tabletop.share = 0.0
    config.sources.web.path = str(args.workdir / "data/web/web-train-*.tar")
    return config


def collect(args: argparse.Namespace) -> None:
    """The web shards; the robot episodes that come with them are not read."""
    scenes = 400 if args.quick else SCENES
    command = [sys.executable, "-m", "rt2.sim.collect", f"--out={args.workdir / 'data'}"]
    counts = [f"--scenes={scenes}", "--episodes=2", "--val-episodes=1"]
    counts += [f"--val-scenes={40 if args.quick else 500}"]
    subprocess.run([*command, *counts, *SHOWN, f"--seed={SEED}"], check=True, cwd=ROOT)


def train(
    config: ml_collections.ConfigDict,
    model: Model,
    preprocess: Preprocess,
    web: WebExamples,
    args: argparse.Namespace,
) -> Params:
    """The parts in turn, each kept in the workdir; log.jsonl tells how they went."""
    batch, most = (16, 4) if args.quick else (256, 10_000)
    half, optimizer = batch // 2, config.optimizer
    optimizer.adamw_rate = 0.33
    places, rows = answering.PlaceRows(web, preprocess), answering.AllRows(web, preprocess)
    named = grounding.PlacedRows(web, preprocess, sentences=False)
    spoken = grounding.PlacedRows(web, preprocess, sentences=True)
    ground = functools.partial(grounding.ground, batch_size=batch)
    mixed = {"places": (places, half // 2), "web": (rows, half // 2)}
    placed = {"places": (places, half * 3 // 4), "web": (rows, half // 4)}
    teach_all = functools.partial(answering.teach, frozen=("text/embedding",))
    # part -> what is done, with which rows, for how many steps, at what rate, by which seed
    parts = {
        "names": (ground, named, 1000, 6e-3, SEED),
        "words": (ground, spoken, 400, 3e-3, SEED + 1),
        "places": (answering.teach, {"places": (places, half)}, 300, 6e-3, SEED),
        "web": (answering.teach, mixed, 1200, 6e-3, SEED + 1),
        "together": (teach_all, placed, 1500, 2e-3, SEED + 5),
    }
    here = dict.fromkeys(model.shapes, jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    params = jax.jit(model.init)(jax.random.key(SEED))
    if args.init:
        params = load(args.init, model, here)
        del parts["names"]
    assets = describe_model(model, preprocess)
    for part, (learn, some, steps, rate, seed) in parts.items():
        kept = args.workdir / f"{part}.safetensors"
        if not kept.exists():
            optimizer.learning_rate = rate
            report = functools.partial(write_log, args.workdir / "log.jsonl", part)
            steps = min(steps, most)
            learnt = learn(
                model,
                some,
                params,
                optimizer=optimizer,
                steps=steps,
                seed=seed,
                report=report,
            )
            own.write_file(kept, learnt, assets, jnp.float32)
        params = load(kept, model, here)
    return params


def describe_model(model: Model, preprocess: Preprocess) -> dict[str, Any]:
    """What travels with the weights."""
    return {
        "format": checkpoint.FORMAT,
        "model": model.to_json(),
        "preprocess": preprocess.to_json(),
    }


def write_log(path: pathlib.Path, part: str, step: int, figures: dict[str, float]) -> None:
    """Adds a line to log.jsonl."""
    log.info("%s, step %d: %s", part, step, figures)
    with path.open("a") as file:
        file.write(json.dumps({"part": part, "step": step, **figures}) + "\n")


def measure(workdir: pathlib.Path, policy: Policy) -> None:
    """results.json: exact match by kind and language on the held-out scenes."""
    examples = WebExamples(workdir / "data/web_vqa/1.0.0", "validation")
    origin = {"commit": commit(), "machine": machine(), "date": datetime.date.today().isoformat()}
    shared = {"peer": None, "ratio": None, "unit": "exact match", **origin}
    rows = []
    for row in vqa.summarise(list(vqa.ask(policy, examples, batch=64))):
        rate, name = row["exact"], f"vqa/{row['kind']}/{row['language']}"
        log.info("%s: %.3f (n = %d)", name, rate.value, rate.n)
        figures = {"name": name, "ours": rate.value, "n": rate.n, "interval": rate.interval}
        rows.append(figures | shared)
    (workdir / "results.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
    main()
