"""How much memory an import of a PaliGemma-shaped checkpoint takes, in a process of its own.

    python experiments/import/run.py            5.9 GB on disk and in memory, about two minutes
    python experiments/import/run.py --quick    the same with 2 of 18 layers and a small vocabulary

The child polls its anonymous memory (without the page cache, with the interpreter and JAX), and
the system keeps the high-water mark of everything mapped.
"""

import argparse
import dataclasses
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

import numpy as np  # noqa: E402

LIMIT = 1.3
CHECKED = {  # ours -> theirs, which index of ours, how theirs is brought to it
    "text/embedding": ("language_model.model.embed_tokens.weight", (), lambda x, s: x),
    "text/layers/attention/query/kernel": (
        "language_model.model.layers.1.self_attn.q_proj.weight",
        (1,),
        lambda x, s: x.T.reshape(s),
    ),
    "text/layers/mlp/out/kernel": (
        "language_model.model.layers.1.mlp.down_proj.weight",
        (1,),
        lambda x, s: x.T,
    ),
    "vision/blocks/attention/out/kernel": (
        "vision_tower.vision_model.encoder.layers.1.self_attn.out_proj.weight",
        (1,),
        lambda x, s: x.T.reshape(s),
    ),
    "projection/kernel": ("multi_modal_projector.linear.weight", (), lambda x, s: x.T),
}


def make_model(quick: bool):
    """paligemma_3b, or the same width with two layers and few tokens."""
    from rt2.models import variants
    from rt2.models.build import Model

    config = variants.config(
        "paligemma_3b", vocab=256_000, dtype="bfloat16", remat="none", image_size=0
    )
    if quick:
        vision = dataclasses.replace(config.vision, depth=2)
        text = dataclasses.replace(config.text, layers=2, vocab=8192, table=0)
        config = dataclasses.replace(config, vision=vision, text=text)
    return Model(config)


def memory_mb(key: str) -> float:
    """A field of this process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def measure(folder: Path, dtype: str, quick: bool) -> dict[str, float]:
    """Loads in this process; bytes in MB of 2^20."""
    import jax

    from rt2.models.weights import published
    from rt2.models.weights.load import load

    model = make_model(quick)
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shardings = dict.fromkeys(model.shapes, one)
    peak, stop = [memory_mb("RssAnon")], threading.Event()

    def watch():
        while not stop.wait(0.005):
            peak[0] = max(peak[0], memory_mb("RssAnon"))

    watcher = threading.Thread(target=watch)
    before = memory_mb("RssAnon")
    watcher.start()
    began = time.perf_counter()
    params = load(folder, model, shardings, dtype=dtype)
    seconds = time.perf_counter() - began
    stop.set()
    watcher.join()
    peak[0] = max(peak[0], memory_mb("RssAnon"))
    mapped = memory_mb("VmHWM")
    check(params, published.paligemma(model.config))
    held = sum(array.nbytes for array in params.values()) / 2**20
    return {
        "seconds": seconds,
        "peak_mb": peak[0],
        "peak_with_mapped_file_mb": mapped,
        "before_mb": before,
        "parameters_mb": held,
        "parameters": float(sum(array.size for array in params.values())),
    }


def check(params: dict, shapes: dict) -> None:
    """Some parameters against the bits that were written."""
    from synthetic import tensor

    for ours, (theirs, index, turn) in CHECKED.items():
        wanted = tensor(theirs, shapes[theirs])
        loaded = np.asarray(params[ours][index])
        same = turn(wanted, loaded.shape).astype(loaded.dtype)
        assert np.array_equal(loaded.view(np.uint8), np.ascontiguousarray(same).view(np.uint8)), (
            ours
        )


def child(folder: Path, dtype: str, quick: bool) -> dict[str, float]:
    """`measure` in a fresh process."""
    flags = ["--measure", str(folder), "--dtype", dtype, *(["--quick"] if quick else [])]
    done = subprocess.run(
        [sys.executable, __file__, *flags],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--measure", type=Path, help="load this folder and print the figures")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.dtype, args.quick)))
        return

    from synthetic import write

    from rt2.evaluate.provenance import commit, machine
    from rt2.models.weights import published

    folder = Path(tempfile.mkdtemp(dir=ROOT))
    try:
        size = write(folder, published.paligemma(make_model(args.quick).config)) / 2**20
        said = child(folder, args.dtype, args.quick)
    finally:
        shutil.rmtree(folder)
    about = {
        "n": 1,
        "interval": None,
        "commit": commit(),
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
    }
    rows = [
        {"name": name, "ours": ours, "peer": peer, "ratio": ours / peer, "unit": unit} | about
        for name, ours, peer, unit in (
            ("peak anonymous memory / checkpoint", said["peak_mb"], size, "MB"),
            (
                "peak memory with mapped file / checkpoint",
                said["peak_with_mapped_file_mb"],
                size,
                "MB",
            ),
            ("parameters in memory / checkpoint", said["parameters_mb"], size, "MB"),
            ("parameters / those of the model", said["parameters"], said["parameters"], "count"),
        )
    ]
    rows.append(
        {"name": f"seconds to load as {args.dtype}", "ours": said["seconds"]}
        | {"peer": None, "ratio": None, "unit": "s"}
        | about
    )
    for row in rows:
        print(f"{row['name']}: {row['ours']:,.1f} {row['unit']}, ratio {row['ratio']}")
    if not args.quick:
        (HERE / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    if args.dtype == "bfloat16" and not args.quick:
        assert rows[0]["ratio"] <= LIMIT, rows[0]


if __name__ == "__main__":
    main()
