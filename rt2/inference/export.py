"""python -m rt2.inference.export --checkpoint=DIR --out=DIR: a policy in a folder of its own.

With --format=safetensors only its weights, in shards that config.init_from and other readers of
safetensors take.

The bundle runs without this package: weights and golden observations (safetensors), the decoding
programs (jax.export: any batch size; CPU, CUDA and TPU), tokenizer, assets, the code that runs them
(`rt2.inference.bundle_runtime` as bundle.py), requirements.txt and a manifest of digests.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax import export as jax_export

from rt2 import prompts
from rt2.checkpoint import FORMAT, CheckpointError
from rt2.inference import bundle_runtime, decode
from rt2.inference.metadata import public
from rt2.inference.policy import Policy
from rt2.models.build import Model
from rt2.models.weights import own
from rt2.models.weights.files import INDEX, open_tensors
from rt2.preprocess import Preprocess, PreprocessError

PLATFORMS = ("cpu", "cuda", "tpu")
REQUIREMENTS = (
    "flatbuffers",  # jax reads exported programs with it
    "jax",
    "numpy",
    "pillow",  # resizes as in training, to the bit
    "safetensors",
    "sentencepiece",
)
TEXT_PROGRAM = "answer.jaxexport"
GOLDEN_WORDS = ("wait", "go", "move", "push", "a")  # the first ones that fit the prompt are taken
GOLDEN_ROWS = 3  # of each data set, and of questions


class ExportError(ValueError):
    """A bundle that cannot be written; the message carries the remedy."""


def write(policy: Policy, out: pathlib.Path) -> str:
    """Writes the bundle of `policy` into the new or empty folder `out` and loads it once.

    Returns the SHA-256 of its manifest, which names every byte of it. Raises ExportError where
    `out` holds anything, and BundleError where the bundle does not decode what `policy` decodes.
    """
    _check_empty(out)
    golden, images = _golden(policy)
    programs = _programs(policy)
    files = {
        "weights.safetensors": safetensors.numpy.save(_contiguous(policy.params)),
        "tokenizer.model": policy.preprocess.tokenizer.model,
        "golden.safetensors": safetensors.numpy.save(images),
        "assets.json": (json.dumps(_assets(policy, golden), indent=1) + "\n").encode(),
        "bundle.py": pathlib.Path(bundle_runtime.__file__).read_bytes(),
        "requirements.txt": _requirements().encode(),
        "README.md": _readme(policy).encode(),
    } | programs
    manifest = bundle_runtime.manifest_bytes(
        {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    )
    out.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (out / name).write_bytes(data)
    (out / "manifest.json").write_bytes(manifest)  # last: without it the folder is no bundle
    bundle_runtime.Policy.load(out)
    return hashlib.sha256(manifest).hexdigest()


def write_weights(policy: Policy, out: pathlib.Path, shard_bytes: int) -> str:
    """Writes the weights of `policy` and what describes them into the new or empty folder `out`.

    Returns the SHA-256 of their index. Raises ExportError where `out` holds anything.
    """
    _check_empty(out)
    assets = {
        "format": FORMAT,
        "model": policy.model.to_json(),
        "preprocess": policy.preprocess.to_json(),
        "metadata": public(policy.metadata),
    }
    own.write_folder(out, policy.params, assets, shard_bytes)
    (out / "tokenizer.model").write_bytes(policy.preprocess.tokenizer.model)
    own.verify(open_tensors(out))
    return hashlib.sha256((out / INDEX).read_bytes()).hexdigest()


def _check_empty(out: pathlib.Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out}: exists and is not an empty folder; choose another --out")


def _programs(policy: Policy) -> dict[str, bytes]:
    """One program for answers, and one for each shape of action table."""
    model, length = policy.model, policy.preprocess.target_length
    inputs = _inputs(policy)

    def answer(params, image, prefix):
        rows, vocab = prefix.shape[0], model.config.text.rows
        nobody, everything = jnp.zeros(rows, bool), jnp.ones((length, vocab), bool)
        module = model.module(params)
        memory = module.encode(image, prefix)
        return decode.mixed(module, memory, nobody, everything)._asdict()

    programs = {TEXT_PROGRAM: _exported(answer, *inputs)}
    for table in _tables(policy).values():
        spec = jax.ShapeDtypeStruct(table.shape, table.dtype)
        programs[_program_name(table)] = _exported(_act(model), *inputs, spec)
    return programs


def _act(model: Model):
    def act(params, image, prefix, table):
        module = model.module(params)
        return decode.actions(module, module.encode(image, prefix), table)._asdict()

    return act


def _inputs(policy: Policy) -> tuple[Any, ...]:
    """Shapes of parameters, images [b, n, S, S, 3] and prefixes [b, L]; b stays open."""
    (batch,) = jax_export.symbolic_shape("b")
    preprocess = policy.preprocess
    size = preprocess.image_size
    image = jax.ShapeDtypeStruct((batch, preprocess.images, size, size, 3), jnp.uint8)
    prefix = jax.ShapeDtypeStruct((batch, preprocess.prefix_length), jnp.int32)
    return policy.model.shapes, image, prefix


def _exported(function: Any, *inputs: Any) -> bytes:
    return bytes(jax_export.export(jax.jit(function), platforms=PLATFORMS)(*inputs).serialize())


def _tables(policy: Policy) -> dict[str, np.ndarray]:
    """int32 [slots, K] of every data set: the ids that each slot may take."""
    preprocess = policy.preprocess
    return {
        name: preprocess.vocabulary.allowed(codec.spec) for name, codec in preprocess.codecs.items()
    }


def _program_name(table: np.ndarray) -> str:
    slots, bins = table.shape
    return f"act-{slots}x{bins}.jaxexport"


def _assets(policy: Policy, golden: list[dict[str, Any]]) -> dict[str, Any]:
    preprocess = policy.preprocess
    tables = _tables(policy)
    datasets = {
        name: codec.to_json()
        | {"table": tables[name].tolist(), "program": _program_name(tables[name])}
        | _question(preprocess, name)
        for name, codec in preprocess.codecs.items()
    }
    return {
        "metadata": public(policy.metadata),
        "image_size": preprocess.image_size,
        "history": preprocess.history,
        "cameras": list(preprocess.cameras),
        "prefix_length": preprocess.prefix_length,
        "begin": [preprocess.tokenizer.bos] * preprocess.bos,
        "suffix": preprocess.suffix,
        "datasets": datasets,
        "text_program": TEXT_PROGRAM,
        "programs": sorted({TEXT_PROGRAM} | {d["program"] for d in datasets.values()}),
        "golden": golden,
    }


def _question(preprocess: Preprocess, dataset: str) -> dict[str, Any]:
    """How the data set's actions are asked for, and what its state is written with."""
    if dataset not in preprocess.state_codecs:
        return {"prompt": prompts.action_prompt("{instruction}"), "state": None}
    codec = preprocess.state_codecs[dataset]
    state = {"low": list(codec.low), "high": list(codec.high), "bins": list(codec.spec.bins)}
    return {"prompt": prompts.action_prompt("{instruction}", "{state}"), "state": state}


def _golden(policy: Policy) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Observations and the policy's own replies to them; images as "row/camera"."""
    rng = np.random.default_rng(0)
    words = _fitting_words(policy)
    asked = [{"dataset": name} for name in policy.preprocess.codecs] + [{"mode": "vqa"}]
    rows, images = [], {}
    for i, what in enumerate(what for what in asked for _ in range(GOLDEN_ROWS)):
        observation = what | {"instruction": words[i % len(words)]}
        if codec := policy.preprocess.state_codecs.get(what.get("dataset")):
            observation["state"] = rng.uniform(codec.low, codec.high).tolist()
        seen = {c: _picture(rng, policy.preprocess.image_size) for c in policy.preprocess.cameras}
        reply = policy.infer({**observation, "image": seen})
        rows.append({"observation": observation, **{k: reply[k] for k in ("text", "log_prob")}})
        images |= {f"{i}/{camera}": image for camera, image in seen.items()}
    return rows, images


def _picture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Coloured tiles, of other sizes than the model's so that resizing is tested too."""
    height, width = size + rng.integers(1, size), size // 2 + rng.integers(1, size)
    tiles = rng.integers(0, 256, (5, 5, 3), np.uint8)
    return tiles.repeat(-(-height // 5), 0).repeat(-(-width // 5), 1)[:height, :width].copy()


def _fitting_words(policy: Policy) -> list[str]:
    fitting = []
    states = policy.preprocess.state_codecs.values()
    widest = [prompts.integers([n - 1 for n in codec.spec.bins]) for codec in states]
    for word in GOLDEN_WORDS:
        try:
            for state in [None, *widest]:
                policy.preprocess.action_prefix(word, state)
        except PreprocessError:
            continue
        fitting.append(word)
    if not fitting:
        raise ExportError(
            f"none of the instructions {GOLDEN_WORDS} fits in the model's prefix_length "
            f"{policy.preprocess.prefix_length}: it could not be instructed at all"
        )
    return fitting


def _contiguous(params: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    return {path: np.ascontiguousarray(array) for path, array in jax.device_get(params).items()}


def _requirements() -> str:
    """The versions that the golden replies were made with."""
    return "".join(f"{name}=={importlib.metadata.version(name)}\n" for name in REQUIREMENTS)


def _readme(policy: Policy) -> str:
    dataset = next(iter(policy.preprocess.codecs))
    return f"""\
# An exported RT-2 policy

    python -m venv env && env/bin/pip install -r requirements.txt   # `jax[cuda13]` on a GPU
    env/bin/python bundle.py                                        # checks this folder

    from bundle import Policy                       # with this folder on PYTHONPATH
    policy = Policy.load("path/to/this/folder")
    reply = policy.infer({{"image": image, "instruction": "...", "dataset": "{dataset}"}})

`image` is uint8 [height, width, 3] RGB; `reply["actions"]` is float32 [1, D] in the units of
`policy.metadata["datasets"]`. Where `state_low` is not empty there, the observation needs `state`
too: as many numbers, the robot's own. With `"mode": "vqa"` the instruction is a question and
`reply["text"]` the answer. Loading checks every byte against manifest.json and the replies to the
golden observations against those of the model that was exported.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Loads a checkpoint and writes its bundle."""
    parser = argparse.ArgumentParser(
        prog="python -m rt2.inference.export", description="Exports a checkpoint to a bundle."
    )
    add = parser.add_argument
    add("--checkpoint", type=pathlib.Path, required=True, help="a workdir, or one step's folder")
    add("--out", type=pathlib.Path, required=True, help="folder to write, new or empty")
    add("--format", choices=("bundle", "safetensors"), default="bundle", help="what to write")
    add("--shard-gb", type=float, default=5.0, help="largest file of --format=safetensors")
    args = parser.parse_args(argv)
    try:
        print(f"Loading {args.checkpoint} ...", flush=True)
        policy = Policy.load(args.checkpoint)
        print("Exporting and verifying ...", flush=True)
        if args.format == "bundle":
            digest = write(policy, args.out)
        else:
            digest = write_weights(policy, args.out, int(args.shard_gb * 1e9))
    except (ExportError, CheckpointError, bundle_runtime.BundleError) as error:
        sys.exit(f"error: {error}")
    size = sum(path.stat().st_size for path in args.out.iterdir()) / 1e6
    print(f"{args.out}: {size:.1f} MB, sha256 {digest[:16]}")


if __name__ == "__main__":
    main()
