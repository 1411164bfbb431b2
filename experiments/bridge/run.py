"""Real robot data: what is fitted, what is held out, and whether the server replays it.

python experiments/bridge/run.py              trains twice, about ten minutes on two cores
python experiments/bridge/run.py --finished   takes runs/bridge_debug and runs/bridge_held_out
python experiments/bridge/run.py --quick      --finished, ten frames, prints only
"""

import argparse
import datetime
import json
import pathlib
import subprocess
import sys

import msgpack
import numpy as np
import websockets.sync.client

from rt2.data import specs
from rt2.data.robot import RobotExamples
from rt2.evaluate.provenance import commit, machine
from rt2.inference import wire
from rt2.inference.policy import Policy

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
RUNS = {"bridge_debug": "", "bridge_held_out": ":held_out"}
DATA = ROOT.parent / "shared/data/bridge_dataset/1.0.0"


def main() -> None:
    """Train, read the figures, replay the training frames through the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--finished", action="store_true")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if not (args.finished or args.quick):
        for name, argument in RUNS.items():
            config, workdir = f"configs/bridge_debug.py{argument}", f"runs/{name}"
            command = [sys.executable, "-m", "rt2.train", f"--config={config}"]
            subprocess.run([*command, f"--workdir={workdir}"], cwd=ROOT, check=True)
    rows = [
        *figures("bridge_debug", "bridge_train", "train"),
        *figures("bridge_held_out", "bridge_held_out", "held out"),
        replay(ROOT / "runs/bridge_debug", 10 if args.quick else None),
    ]
    origin = {"commit": commit(), "machine": machine(), "date": datetime.date.today().isoformat()}
    rows = [{"peer": None, "ratio": None, "interval": None} | row | origin for row in rows]
    if not args.quick:
        (HERE / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['name']}: {row['ours']:.4g} {row['unit']} (n = {row['n']})")


def figures(run: str, source: str, label: str) -> list[dict]:
    """Token accuracy and L1 per dimension of the last evaluation of a run."""
    lines = (ROOT / "runs" / run / "metrics.jsonl").read_text().splitlines()
    last = [row for row in map(json.loads, lines) if f"{source}/action_token_accuracy" in row][-1]
    steps = {"train": 225, "held out": 45}[label]
    rows = []
    for name, value in last.items():
        figure = name.removeprefix(f"{source}/")
        if figure != name and figure != "invalid_actions":
            unit = figure.rsplit("_", 1)[-1] if figure.startswith("l1_") else "share of tokens"
            rows.append({"name": f"{label}/{figure}", "ours": value, "unit": unit, "n": steps})
    return rows


def replay(workdir: pathlib.Path, limit: int | None) -> dict:
    """How many training frames the served policy answers with the trainer's own argmax."""
    examples = RobotExamples(DATA, "train", specs.get("bridge_dataset"))
    count = min(limit or len(examples), len(examples))
    frames = [examples[i] for i in range(count)]
    asked = [{"image": f.images[-1], "instruction": f.instruction} for f in frames]
    wanted = [reply["tokens"].tolist() for reply in Policy.load(workdir).infer_batch(asked)]
    command = [sys.executable, "-m", "rt2.inference.serve", f"--checkpoint={workdir}", "--port=0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = next(line for line in server.stdout if "ws://" in line).split()[-1]
        with websockets.sync.client.connect(address, max_size=None) as socket:
            socket.recv()  # the metadata
            same = 0
            for observation, tokens in zip(asked, wanted, strict=True):
                socket.send(wire.encode(observation))
                reply = msgpack.unpackb(socket.recv(), strict_map_key=False)
                same += np.array_equal(reply["tokens"], tokens)
    finally:
        server.terminate()
        server.wait()
    return {"name": "train/served tokens equal", "ours": same, "unit": "frames", "n": count}


if __name__ == "__main__":
    main()
