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
import venv
from pathlib import Path

from rt2.evaluate.provenance import commit, machine

HERE = Path(__file__).resolve().parent
# openpi-client 0.1.2 imports typing_extensions and does not ask for it.
PACKAGES = ("openpi-client", "typing_extensions")


def random_checkpoint(folder: Path, steps: int = 1, prefix_length: int = 40) -> Path:
    """A workdir of the smallest model with steps of random weights, each of its own seed."""
    import jax

    from rt2 import checkpoint
    from rt2.actions import RT2, ActionCodec
    from rt2.models import variants
    from rt2.models.build import Model
    from rt2.preprocess import Preprocess
    from rt2.prompts import action_prompt
    from rt2.tokenizer import ActionVocabulary, Tokenizer
    from rt2.train.checkpoint import CheckpointWriter
    from rt2.train.step import TrainState

    tokenizer = Tokenizer.train([action_prompt("move to the cup")] * 50, 1152)
    codec = ActionCodec(RT2, (-0.05,) * 6 + (0.0,), (0.05,) * 6 + (1.0,))
    vocabulary = ActionVocabulary.integer(tokenizer, RT2)
    preprocess = Preprocess(tokenizer, vocabulary, {"random": codec}, 64, 1, prefix_length, 12)
    size = tokenizer.size
    model = Model(
        variants.config("debug", vocab=size, dtype="float32", remat="none", image_size=64)
    )
    assets = {
        "format": checkpoint.FORMAT,
        "config": {},
        "model": model.to_json(),
        "preprocess": preprocess.to_json(),
        "data": {},
        "eval": {},
    }
    writer = CheckpointWriter(folder, keep=steps)
    for step in range(1, steps + 1):
        params = jax.jit(model.init)(jax.random.key(step - 1))
        state = TrainState(jax.numpy.int32(step), params, {"count": jax.numpy.int32(0)})
        writer.save(state, json.loads(json.dumps(assets | {"step": step})))
    writer.close()
    return folder


def client_environment(folder: Path) -> Path:
    """The interpreter of a new environment that has openpi-client alone."""
    print(f"installing {', '.join(PACKAGES)} in an environment of their own", flush=True)
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def ask(python: Path, checkpoint: Path, requests: int, hold: bool = False) -> dict:
    """Serves `checkpoint` and returns what client.py finds; the server must end with code 0."""
    command = [sys.executable, "-m", "rt2.inference.serve", f"--checkpoint={checkpoint}"]
    command += ["--port=0", "--max-batch=1", *(["--hold-below=1"] if hold else [])]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = listening_port(server)
        client = [python, HERE / "client.py", port, str(requests), *(["hold"] if hold else [])]
        done = subprocess.run(client, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"the client failed:\n{done.stderr}")
        server.terminate()
        return json.loads(done.stdout) | {"server_exit": server.wait(30)}
    finally:
        server.kill()


def listening_port(server: subprocess.Popen) -> str:
    """The port that a starting server names; ends this program where the server ends."""
    for line in server.stdout:
        print(line, end="", flush=True)
        if line.startswith("listening on"):
            return line.rsplit(":", 1)[1].strip()
    sys.exit("the server ended before it listened")


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
        python = client_environment(Path(folder) / "env")
        checkpoint = args.checkpoint or random_checkpoint(Path(folder) / "random")
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
