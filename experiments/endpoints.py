"""Both ends of an experiment with a server: a policy to serve, and an environment for a client."""

import json
import subprocess
import sys
import venv
from pathlib import Path

# openpi-client 0.1.2 imports typing_extensions and does not ask for it.
OPENPI = ("openpi-client", "typing_extensions")


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
        "config": {"sources": {}},
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


def environment(folder: Path, *packages: str) -> Path:
    """The interpreter of a new environment that has these packages alone."""
    print(f"installing {', '.join(packages)} in an environment of their own", flush=True)
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def listening_port(server: subprocess.Popen) -> str:
    """The port that a starting server names; ends this program where the server ends."""
    for line in server.stdout:
        print(line, end="", flush=True)
        if line.startswith("listening on"):
            return line.rsplit(":", 1)[1].strip()
    sys.exit("the server ended before it listened")
