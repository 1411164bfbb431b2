"""Does a robot's loop keep 3 and 5 Hz against the server, with openpi's client and with ours?

    python experiments/robot_loop/run.py            about three minutes; writes results.json
    python experiments/robot_loop/run.py --quick    under a minute, prints only

The `debug` model with random weights behind `python -m rt2.inference.serve`; openpi-client comes
from the package index into an environment of its own, where `rt2.robot` runs with numpy alone.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from experiments import endpoints  # noqa: E402
from rt2.evaluate.provenance import commit, machine  # noqa: E402


def serve(checkpoint: Path) -> tuple[subprocess.Popen, int]:
    """A server that is ready, and its port."""
    command = [sys.executable, "-m", "rt2.inference.serve", f"--checkpoint={checkpoint}"]
    server = subprocess.Popen(
        [*command, "--port=0", "--max-batch=1"], stdout=subprocess.PIPE, text=True
    )
    port = 0
    for line in server.stdout:
        if line.startswith("listening on"):
            port = int(line.rsplit(":", 1)[1])
        if line.startswith("ready"):
            return server, port
    sys.exit("the server ended before it was ready")


def act(python: str, client: str, port: int, rate: float, seconds: float, kill: int = 0) -> dict:
    """What one robot found."""
    command = [python, HERE / "robot.py", client, str(port), str(rate), str(seconds)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(
        [*command, *([str(kill)] if kill else [])],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"the robot failed:\n{done.stderr}")
    return json.loads(done.stdout)


def main() -> None:
    """Makes the environment, serves, acts, prints and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 s of each, no file")
    args = parser.parse_args()
    seconds = 5 if args.quick else 30
    here = machine()
    stamp = {
        "commit": commit(),
        "machine": f"{here['cpu']}, {here['cores']} cores",
        "date": datetime.date.today().isoformat(),
    }
    made = []

    def row(name, ours, unit, n, interval=None):
        made.append({"name": name, "ours": ours, "peer": None, "ratio": None, "unit": unit, "n": n})
        made[-1] |= {"interval": interval} | stamp
        print(f"{name:28} {ours} {unit} (n = {n})", interval or "", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        pythons = {
            "openpi": str(endpoints.environment(Path(folder) / "env", *endpoints.OPENPI)),
            "ours": sys.executable,
        }
        checkpoint = endpoints.random_checkpoint(Path(folder) / "random")
        for client, python in pythons.items():
            server, port = serve(checkpoint)
            try:
                for rate in (3, 5):
                    found = act(python, client, port, rate, seconds)
                    moved, others = found["counts"].pop("moved", 0), found["counts"]
                    waits = [
                        round(float(q), 1) for q in np.percentile(found["wait_ms"], (50, 99, 100))
                    ]
                    row(f"{client}_{rate}hz_rate", round(found["rate"], 2), "Hz", moved)
                    row(f"{client}_{rate}hz_wait_p99", waits[1], "ms", moved, [waits[0], waits[2]])
                    row(f"{client}_{rate}hz_no_reply", sum(others.values()), "steps", moved)
                found = act(python, client, port, 5, seconds / 2, server.pid)
                held = round(1e3 * found["hold_after_kill"])
                row(f"{client}_server_killed_hold", held, "ms", 1)
                if found["jax"]:
                    sys.exit("the robot's process has loaded jax")
            finally:
                server.kill()
    if not args.quick:
        (HERE / "results.json").write_text(json.dumps(made, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
