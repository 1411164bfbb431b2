"""python -m rt2.inference.export --checkpoint=DIR --out=DIR: a policy in a folder of its own.

With --weights=int8 or bf16 its matrices are narrow. With --format=safetensors it is the weights
alone, in shards that config.init_from and other readers of safetensors take; with
--format=saved_model TensorFlow's SavedModel (`rt2.inference.saved_model`).

The bundle runs without this package: weights in shards and golden observations (safetensors), the
decoding programs (jax.export: any batch size; CPU, CUDA and TPU; they widen narrow weights),
tokenizer, assets, the code that runs them (`rt2.inference.bundle_runtime` as bundle.py),
requirements.txt, a card (README.md) and a manifest of digests.
"""

from __future__ import annotations

import argparse
import gzip
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

from rt2 import checkpoint, prompts
from rt2.checkpoint import FORMAT
from rt2.errors import UserError
from rt2.inference import bundle_runtime, card, decode
from rt2.inference.metadata import WEIGHTS, public, weights_sentence
from rt2.inference.policy import Policy
from rt2.models import quantise
from rt2.models.build import Model
from rt2.models.weights import own
from rt2.models.weights.files import INDEX, open_tensors
from rt2.preprocess import Preprocess, PreprocessError

FORMATS = ("bundle", "safetensors", "saved_model")
SHARD = 5_000_000_000  # bytes
PLATFORMS = ("cpu", "cuda", "tpu")
REQUIREMENTS = (
    "flatbuffers",  # jax reads exported programs with it
    "jax",
    "ml_dtypes",  # bfloat16
    "numpy",
    "pillow",  # resizes as in training, to the bit
    "safetensors",
    "sentencepiece",
)
TEXT_PROGRAM = "answer.jaxexport"
GOLDEN_WORDS = ("wait", "go", "move", "push", "a")  # the first ones that fit the prompt are taken
GOLDEN_ROWS = 3  # of each data set, and of questions


class ExportError(UserError):
    """A bundle that cannot be written; the message carries the remedy."""


def write(
    policy: Policy, out: pathlib.Path, origin: card.Origin = card.UNKNOWN, shard_bytes: int = SHARD
) -> str:
    """Writes the bundle of `policy` into the new or empty folder `out` and loads it once.

    `origin` is told in the card. Returns the SHA-256 of the manifest, which names every byte of the
    bundle. Raises ExportError where `out` holds anything, and BundleError where the bundle does not
    decode what `policy` decodes.
    """
    check_empty(out)
    shown, images = golden(policy)
    places = own.write_shards(out, policy.params, shard_bytes)
    weights = list(dict.fromkeys(places.values()))
    described = assets(policy, shown) | {"weights": weights}
    packed = {
        "tokenizer.model": policy.preprocess.tokenizer.model,
        "golden.safetensors": safetensors.numpy.save(images),
        **_programs(policy),
    }
    files = {
        "assets.json": (json.dumps(described, indent=1) + "\n").encode(),
        "bundle.py": pathlib.Path(bundle_runtime.__file__).read_bytes(),
        "requirements.txt": _requirements().encode(),
        "README.md": card.text(policy, origin).encode(),
        **{f"{name}.gz": gzip.compress(data, mtime=0) for name, data in packed.items()},
    }
    for name, data in files.items():
        (out / name).write_bytes(data)
    manifest = bundle_runtime.manifest_bytes(
        {name: _digest(out / name) for name in weights + [*files]}
    )
    (out / "manifest.json").write_bytes(manifest)  # last: without it the folder is no bundle
    bundle_runtime.Policy.load(out)
    return hashlib.sha256(manifest).hexdigest()


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_weights(policy: Policy, out: pathlib.Path, shard_bytes: int) -> str:
    """Writes the weights of `policy` and what describes them into the new or empty folder `out`.

    Returns the SHA-256 of their index. Raises ExportError where `out` holds anything, or the
    weights are int8, which no other reader would know.
    """
    check_empty(out)
    if policy.metadata["weights"]["kind"] == "int8":
        raise ExportError("--format=safetensors: takes --weights=f32 or bf16")
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


def check_empty(out: pathlib.Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out}: exists and is not an empty folder; choose another --out")


def answer(model: Model, length: int):
    """The program of free answers of at most `length` tokens."""

    def program(params, image, prefix):
        rows, vocab = prefix.shape[0], model.config.text.rows
        nobody, everything = jnp.zeros(rows, bool), jnp.ones((length, vocab), bool)
        module = model.module(quantise.widen(params))
        memory = module.encode(image, prefix)
        return decode.mixed(module, memory, nobody, everything)._asdict()

    return program


def act(model: Model):
    """The program of actions under a table int32 [slots, K] of allowed tokens."""

    def program(params, image, prefix, table):
        module = model.module(quantise.widen(params))
        return decode.actions(module, module.encode(image, prefix), table)._asdict()

    return program


def _programs(policy: Policy) -> dict[str, bytes]:
    """One program for answers, and one for each shape of action table."""
    inputs = _inputs(policy)
    length = policy.preprocess.target_length
    programs = {TEXT_PROGRAM: _exported(answer(policy.model, length), *inputs)}
    for table in tables(policy).values():
        spec = jax.ShapeDtypeStruct(table.shape, table.dtype)
        programs[_program_name(table)] = _exported(act(policy.model), *inputs, spec)
    return programs


def _inputs(policy: Policy) -> tuple[Any, ...]:
    """Shapes of parameters, images [b, n, S, S, 3] and prefixes [b, L]; b stays open."""
    (batch,) = jax_export.symbolic_shape("b")
    preprocess = policy.preprocess
    size = preprocess.image_size
    image = jax.ShapeDtypeStruct((batch, preprocess.images, size, size, 3), jnp.uint8)
    prefix = jax.ShapeDtypeStruct((batch, preprocess.prefix_length), jnp.int32)
    shapes = {path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in policy.params.items()}
    return shapes, image, prefix


def _exported(function: Any, *inputs: Any) -> bytes:
    return bytes(jax_export.export(jax.jit(function), platforms=PLATFORMS)(*inputs).serialize())


def tables(policy: Policy) -> dict[str, np.ndarray]:
    """int32 [slots, K] of every data set: the ids that each slot may take."""
    preprocess = policy.preprocess
    return {
        name: preprocess.vocabulary.allowed(codec.spec) for name, codec in preprocess.codecs.items()
    }


def _program_name(table: np.ndarray) -> str:
    slots, bins = table.shape
    return f"act-{slots}x{bins}.jaxexport"


def assets(policy: Policy, shown: list[dict[str, Any]]) -> dict[str, Any]:
    """What stands around the programs, as JSON values; `shown` are the golden rows."""
    preprocess = policy.preprocess
    allowed = tables(policy)
    datasets = {
        name: codec.to_json()
        | {"table": allowed[name].tolist(), "program": _program_name(allowed[name])}
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
        "golden": shown,
    }


def _question(preprocess: Preprocess, dataset: str) -> dict[str, Any]:
    """How the data set's actions are asked for, and what its state is written with."""
    if dataset not in preprocess.state_codecs:
        return {"prompt": prompts.action_prompt("{instruction}"), "state": None}
    codec = preprocess.state_codecs[dataset]
    state = {"low": list(codec.low), "high": list(codec.high), "bins": list(codec.spec.bins)}
    return {"prompt": prompts.action_prompt("{instruction}", "{state}"), "state": state}


def golden(policy: Policy) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Observations and the policy's own replies to them; images as "row/camera"."""
    rng = np.random.default_rng(0)
    words = fitting_words(policy)
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


def fitting_words(policy: Policy) -> list[str]:
    """Instructions that fit in the model's prefix."""
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


def _requirements() -> str:
    """The versions that the golden replies were made with."""
    return "".join(f"{name}=={importlib.metadata.version(name)}\n" for name in REQUIREMENTS)


def main(argv: Sequence[str] | None = None) -> None:
    """Loads a checkpoint and writes its bundle."""
    args = _parser().parse_args(argv)
    try:
        check_empty(args.out)
        print(f"Loading {args.checkpoint} ...", flush=True)
        policy = Policy.load(args.checkpoint, args.weights)
        print(weights_sentence(policy.metadata["weights"]), flush=True)
        print("Exporting and verifying ...", flush=True)
        digest = _write(policy, args)
    except (UserError, bundle_runtime.BundleError) as error:
        sys.exit(f"error: {error}")
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file()) / 1e6
    print(f"{args.out}: {size:.1f} MB, sha256 {digest[:16]}")


def _write(policy: Policy, args: argparse.Namespace) -> str:
    shard_bytes = int(args.shard_gb * 1e9)
    if args.format == "safetensors":
        return write_weights(policy, args.out, shard_bytes)
    from rt2.evaluate.provenance import commit  # nothing that infers needs the evaluation

    origin = card.Origin.read(checkpoint.find(args.checkpoint), commit())
    if args.format == "saved_model":
        from rt2.inference import saved_model

        return saved_model.write(policy, args.out, origin)
    return write(policy, args.out, origin, shard_bytes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rt2.inference.export", description="Exports a checkpoint to a bundle."
    )
    add = parser.add_argument
    add("--checkpoint", type=pathlib.Path, required=True, help="a workdir, or one step's folder")
    add("--out", type=pathlib.Path, required=True, help="folder to write, new or empty")
    add("--format", choices=FORMATS, default="bundle", help="what to write (default bundle)")
    add("--weights", choices=WEIGHTS, default="f32", help="of its matrices (default f32)")
    add("--shard-gb", type=float, default=SHARD / 1e9, help="largest file of weights (default 5)")
    return parser


if __name__ == "__main__":
    main()
