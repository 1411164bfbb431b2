"""Does the unmodified openpi-client package get valid actions from `rt2.inference.serve`?

    python experiments/openpi_client/run.py --checkpoint=DIR    writes results.json
    python experiments/openpi_client/run.py --quick             random weights, prints only

Makes an environment in a temporary folder, installs openpi-client there from the package index,
serves the checkpoint on a free port and asks in the forms of openpi's LIBERO, DROID and ALOHA
clients.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from experiments import endpoints  # noqa: E402
from rt2.evaluate.provenance import commit, machine  # noqa: E402


def ask(python: Path, checkpoint: Path, requests: int, hold: bool = False) -> dict:
    """Serves `checkpoint` and returns what client.py finds; the server must end with code 0."""
    command = [sys.executable, "-m", "rt2.inference.serve", f"--checkpoint={checkpoint}"]
    command += ["--port=0", "--max-batch=1", *(["--hold-below=1"] if hold else [])]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = endpoints.listening_port(server)
        client = [python, HERE / "client.py", port, str(requests), *(["hold"] if hold else [])]
        done = subprocess.run(client, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"the client failed:\n{done.stderr}")
        server.terminate()
        return json.loads(done.stdout) | {"server_exit": server.wait(30)}
    finally:
        server.kill()


def rows(found: dict, requests: int) -> list[dict]:
    """The findings as result rows; what has no peer has null there."""
    here = machine()
    stamp = {
        "commit": commit(),
        "machine": f"{here['cpu']}, {here['cores']} cores",
        "date": datetime.date.today().isoformat(),
    }

    def row(name: str, ours: float, unit: str, n: int, interval: list[float] | None = None) -> dict:
        measured = {"name": name, "ours": ours, "peer": None, "ratio": None}
        return measured | {"unit": unit, "n": n, "interval": interval} | stamp

    made = [row(f"valid_{form}", n, "replies", requests) for form, n in found["valid"].items()]
    for name in ("round_trip_ms", "server_ms"):
        times = sorted(found[name])
        low, high = times[len(times) // 20], times[-1 - len(times) // 20]
        middle = round(statistics.median(times), 2)
        made.append(row(name, middle, "ms", len(times), [round(low, 2), round(high, 2)]))
    refused = "imagse: unknown" in found["refusal"] and "Traceback" not in found["refusal"]
    made.append(row("held_still", found["held"], "replies", requests))
    made.append(row("chunk_broker_steps", int(found["broker"]), "steps", 1))
    made.append(row("bad_key_refused_by_name", int(refused), "requests", 1))
    made.append(row("server_exit_code", found["server_exit"], "", 1))
    return made


def main() -> None:
    """Makes the environment, serves, asks, prints and writes the rows; fails on a wrong reply."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="random weights if left out")
    parser.add_argument("--requests", type=int, default=100, help="requests of each form")
    parser.add_argument("--quick", action="store_true", help="5 requests of each form, no file")
    args = parser.parse_args()
    requests = 5 if args.quick else args.requests
    with tempfile.TemporaryDirectory() as folder:
        python = endpoints.environment(Path(folder) / "env", *endpoints.OPENPI)
        checkpoint = args.checkpoint or endpoints.random_checkpoint(Path(folder) / "random")
        found = ask(python, checkpoint, requests)
        found |= {"held": ask(python, checkpoint, requests, hold=True)["held"]}
    made = rows(found, requests)
    print("metadata:", ", ".join(found["metadata"]))
    for row in made:
        interval = row["interval"] or ""
        print(f"{row['name']:24} {row['ours']} {row['unit']} (n = {row['n']}) {interval}")
    if not args.quick:
        (HERE / "results.json").write_text(json.dumps(made, indent=2) + "\n", "utf-8")
    wrong = [form for form, n in found["valid"].items() if n < requests]
    wrong += ["held_still"] if found["held"] < requests else []
    wrong += [row["name"] for row in made[-3:-1] if not row["ours"]]
    if wrong or found["server_exit"]:
        sys.exit(f"wrong: {', '.join(wrong) or 'exit code of the server'}")


if __name__ == "__main__":
    main()
