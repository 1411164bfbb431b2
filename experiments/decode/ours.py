"""Our side: `Policy.infer` and the programs in it.

python experiments/decode/ours.py write SIZE VOCAB FOLDER   draws parameters, writes the inputs
python experiments/decode/ours.py serve SIZE VOCAB FOLDER   measures what stands on each input line
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from cases import BINS, INSTRUCTION, SLOTS, case, files
from measuring import serve
from safetensors import safe_open
from safetensors.numpy import save_file
from sizes import Size

from experiments.step.ours import make_model
from rt2.actions import RT2, ActionCodec
from rt2.inference import decode
from rt2.inference.policy import Policy
from rt2.models.build import Model
from rt2.preprocess import Preprocess
from rt2.tokenizer import ActionVocabulary, Tokenizer

TEXT = [f"Q: what action should the robot take to {INSTRUCTION}? A:"] * 10


def make_policy(size: Size, model: Model, params: dict) -> Policy:
    """A policy whose action tokens lie anywhere in the vocabulary."""
    ids = np.random.default_rng(1).permutation(np.arange(3, size.text["vocab"]))[:BINS]
    preprocess = Preprocess(
        tokenizer=Tokenizer.train(TEXT, 1100),
        vocabulary=ActionVocabulary("overwrite", tuple(map(int, ids))),
        codecs={"arm": ActionCodec(RT2, (-0.05,) * 7, (0.05,) * 7)},
        image_size=size.image,
        history=1,
        prefix_length=size.prefix,
        target_length=SLOTS + 1,
    )
    return Policy(model, params, preprocess, {})


def observation(size: Size) -> dict:
    """Noise to look at, and the instruction."""
    image = np.random.default_rng(0).integers(0, 256, (size.image, size.image, 3))
    return {"image": image.astype(np.uint8), "instruction": INSTRUCTION}


def jobs(size: Size, policy: Policy) -> dict[str, Callable[[], list[int]]]:
    """What can be measured, each giving its tokens."""
    given, params = observation(size), policy.held
    image, prefix, _ = (x[None] for x in policy._row(given, "arm"))
    table = policy._tables["arm"]
    free = np.ones((SLOTS, policy.model.config.text.rows), bool)
    encode = jax.jit(lambda p, i, t: policy.model.module(p).encode(i, t))
    memory = encode(params, image, prefix)
    start = jax.jit(lambda p, m: policy.model.module(p).start(m, SLOTS))

    @jax.jit
    def act(params, memory, table):
        return decode.actions(policy.model.module(params), memory, table)

    @jax.jit
    def answer(params, memory, free):
        return decode.mixed(policy.model.module(params), memory, np.zeros(1, bool), free)

    return {
        "whole": lambda: policy.infer(given)["tokens"].tolist(),
        "batch": lambda: policy.infer_batch([given] * 8)[7]["tokens"].tolist(),
        "encode": lambda: [int(jax.block_until_ready(encode(params, image, prefix)).mask.sum())],
        "start": lambda: jax.block_until_ready(start(params, memory)).memory_mask.sum(1).tolist(),
        "decode": lambda: np.asarray(act(params, memory, table).tokens)[0].tolist(),
        "free": lambda: np.asarray(answer(params, memory, free).tokens)[0].tolist(),
        "bandwidth": bandwidth(),
    }


def bandwidth() -> Callable[[], list[int]]:
    """Reads one GB of float32 by numpy's product of a matrix and a vector."""
    made: list[np.ndarray] = []

    def read() -> list[int]:
        if not made:
            made.extend((np.ones((32_768, 8_192), np.float32), np.ones(8_192, np.float32)))
        matrix, vector = made
        return [int((matrix @ vector)[0])]

    return read


def main() -> None:
    """Writes a case, or measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["write", "serve"])
    parser.add_argument("size")
    parser.add_argument("vocab", type=int)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    size = case(args.size, args.vocab)
    weights, inputs = files(args.folder, args.size, args.vocab)
    model = make_model(size, "none")
    if args.mode == "write":
        params = jax.jit(model.init)(jax.random.key(0))
        # drawn wider, so that the tokens of an action differ
        params["text/embedding"] = 4 * params["text/embedding"]
        policy = make_policy(size, model, params)
        image, prefix, _ = policy._row(observation(size), "arm")
        np.savez(inputs, image=image[None], prefix=prefix[None], table=policy._tables["arm"])
        save_file({path: np.asarray(value) for path, value in params.items()}, weights)
        return
    with safe_open(weights, "np") as file:
        params = {path: jnp.asarray(file.get_tensor(path)) for path in model.shapes}
    serve(jobs(size, make_policy(size, model, model.apart(params))))


if __name__ == "__main__":
    main()
