"""Compiles the 55B train step for slices that are not here, and keeps what they need.

    python experiments/plan/run.py            every row that results.json lacks; hours on 2 cores
    python experiments/plan/run.py --only weak_h100_64 fit_v4_64
    python experiments/plan/run.py --quick    the counts that need no compiler; prints only

Each compilation is a process of its own (`python -m rt2.plan`), so that its memory is its own peak.
"""

import argparse
import datetime
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from rt2.evaluate import provenance  # noqa: E402

RESULTS = HERE / "results.json"
CONFIG = "configs/fractal_palix_55b.py"
CONFIG_5B = "configs/fractal_palix_5b.py"
SERVE = ("serve",)


def row(topology: str, batch: int, *programs: str, config: str = CONFIG, **overrides) -> dict:
    """One compilation: `overrides` are fields of the config, with __ for a dot."""
    changed = {"batch_size": batch} | {k.replace("__", "."): v for k, v in overrides.items()}
    return {"topology": topology, "programs": programs, "config": config, "overrides": changed}


ROWS = {
    # the paper's batch on three kinds of chip
    "fit_h100_64": row("h100:8x8", 2048, "train", "decode", "start"),
    "fit_v4_64": row("v4:4x4x4", 2048, "train"),
    "fit_v5p_64": row("v5p:4x4x4", 2048, "train"),
    # eight rows on every chip; 250,112 rows of the head divide over 256 chips and not over 512
    "weak_h100_64": row("h100:8x8", 512, "train"),
    "weak_h100_128": row("h100:16x8", 1024, "train"),
    "weak_h100_256": row("h100:32x8", 2048, "train"),
    "weak_h100_512": row("h100:64x8", 4096, "train", mesh__data=2),
    # thirty-two rows on every v4; fit_v4_64 is the first of them
    "weak_v4_128": row("v4:4x4x8", 4096, "train"),
    "weak_v4_256": row("v4:4x8x8", 8192, "train"),
    "weak_v4_512": row("v4:8x8x8", 16384, "train", mesh__data=2),
    # other meshes of the same chips
    "mesh_v4_fsdp16_tensor4": row("v4:4x4x4", 2048, "train", mesh__fsdp=16, mesh__tensor=4),
    "mesh_v5p_data4_fsdp16": row("v5p:4x4x4", 2048, "train", mesh__data=4, mesh__fsdp=16),
    # memory against recomputation, at 8 rows on a chip
    "remat_none_h100_256": row("h100:32x8", 2048, "train", model__remat="none"),
    # a step from PaliGemma's weights at batch 1
    "paligemma_h100_1": row(
        "h100:1x1",
        1,
        "train",
        config="configs/fractal_palme_12b.py",
        model__variant="paligemma_3b",
        mesh__fsdp=1,
        mesh__data=1,
    ),
    # one action at batch 1, the weights spread by heads and widths
    "serve_55b_h100_4": row("h100:1x4", 1, "serve"),
    "serve_55b_h100_8": row("h100:1x8", 1, "serve"),
    "serve_55b_v4_8": row("v4:2x2x2", 1, "serve"),
    "serve_55b_v5e_16": row("v5e:4x4", 1, "serve"),
    "serve_5b_h100_1": row("h100:1x1", 1, "serve", config=CONFIG_5B),
    "serve_5b_v4_4": row("v4:2x2x1", 1, "serve", config=CONFIG_5B),
    "serve_5b_v5e_1": row("v5e:1x1", 1, "serve", config=CONFIG_5B),
    "serve_5b_v5e_4": row("v5e:2x2", 1, "serve", config=CONFIG_5B),
    # the cross-entropy alone: what it adds to a step
    "entropy_h100_64": row("h100:8x8", 2048, "entropy"),
}


def plan(one: dict, page: Path | None) -> dict:
    """The figures of one row, compiled in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plan.json"
        command = [sys.executable, "-m", "rt2.plan", f"--config={one['config']}"]
        command += [f"--topology={one['topology']}", f"--json={file}"]
        if one["programs"] == SERVE:
            command += ["--serve"]
        else:
            programs = ",".join(one["programs"])
            command += [f"--programs={programs}"] if programs else ["--quick"]
        command += [f"--config.{field}={value}" for field, value in one["overrides"].items()]
        command += [f"--html={page}"] if page else []
        environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        subprocess.run(command, check=True, cwd=ROOT, env=environment)
        return json.loads(file.read_text())


@functools.cache
def commit() -> str:
    """Of the work tree as the run began: the rows that it writes are no change of the code."""
    return provenance.commit()


def stamp() -> dict:
    """Where a row comes from."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"commit": commit(), "machine": provenance.machine(), "date": now}


def result(name: str, found: dict) -> dict:
    """A row of results.json: utilization or time of an action, estimated, or bytes on a chip."""
    if "roofline" in found:
        ours, unit = found["roofline"]["model_flops_utilization"], "estimated MFU"
    elif "action" in found:
        ours, unit = 1e3 * found["action"]["most"], "ms an action at most, estimated"
    else:
        ours, unit = found["bytes"]["total"], "bytes a chip"
    head = {"name": name, "ours": ours, "peer": None, "ratio": None, "unit": unit}
    return head | {"n": 1, "interval": None} | stamp() | {"plan": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="no compiler, under a minute")
    parser.add_argument("--only", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--pages", type=Path, help="write a page for each row into this folder")
    args = parser.parse_args()
    if args.quick:
        for name in ("fit_h100_64", "fit_v4_64", "fit_v5p_64"):
            plan(ROWS[name] | {"programs": ()}, None)
        return
    commit()
    done = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    for name in args.only:
        if name not in {one["name"] for one in done}:
            page = args.pages / f"{name}.html" if args.pages else None
            done.append(result(name, plan(ROWS[name], page)))
            RESULTS.write_text(json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    main()
