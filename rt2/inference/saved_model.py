"""A policy's programs as TensorFlow's SavedModel, for servers that take nothing else.

Signatures: "answer", and "act_NAME" for every data set, from `image` uint8 [b, n, S, S, 3] and
`prefix` int32 [b, L] to `tokens` and `log_prob`. What stands around them (resizing, tokens) is up
to the caller: tokenizer.model and assets.json say how. TensorFlow is imported here alone.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
from typing import Any

import numpy as np

from rt2.inference import card, export
from rt2.inference.policy import Policy


def write(policy: Policy, out: pathlib.Path, origin: card.Origin) -> str:
    """Writes the SavedModel into the new or empty folder `out`; returns its program's SHA-256.

    Raises ExportError where `out` holds anything, TensorFlow is missing, or what was written does
    not decode a golden observation as the policy does.
    """
    export.check_empty(out)
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        raise export.ExportError(
            f"--format=saved_model needs {error.name}: pip install -e '.[data]'"
        ) from None
    golden, images = export.golden(policy)
    module, signatures = _module(tf, policy)
    tf.saved_model.save(module, str(out), signatures=signatures)
    (out / "tokenizer.model").write_bytes(policy.preprocess.tokenizer.model)
    assets = export.assets(policy, golden)
    (out / "assets.json").write_text(json.dumps(assets, indent=1) + "\n", "utf-8")
    (out / "README.md").write_text(card.text(policy, origin), "utf-8")
    _check(tf, policy, out, images)
    return hashlib.sha256((out / "saved_model.pb").read_bytes()).hexdigest()


def name_of(dataset: str) -> str:
    """The signature of a data set's actions; TensorFlow allows few characters in it."""
    return "act_" + re.sub(r"\W", "_", dataset)


def _module(tf: Any, policy: Policy) -> tuple[Any, dict[str, Any]]:
    from jax.experimental import jax2tf

    preprocess, module = policy.preprocess, tf.Module()
    module.params = {
        path.replace("/", ".").replace(":", "-"): tf.Variable(np.asarray(x), trainable=False)
        for path, x in policy.params.items()
    }
    paths = list(policy.params)
    size = preprocess.image_size
    inputs = [
        tf.TensorSpec((None, preprocess.images, size, size, 3), tf.uint8, "image"),
        tf.TensorSpec((None, preprocess.prefix_length), tf.int32, "prefix"),
    ]

    def signature(program: Any, *table: np.ndarray) -> Any:
        converted = jax2tf.convert(
            lambda params, image, prefix: _plain(program(params, image, prefix, *table)),
            polymorphic_shapes=[None, "(b, ...)", "(b, ...)"],
            with_gradient=False,
            native_serialization_platforms=export.PLATFORMS,
        )

        @tf.function(autograph=False, input_signature=inputs)
        def called(image, prefix):
            params = dict(zip(paths, module.params.values(), strict=True))
            return converted(params, image, prefix)

        return called

    functions = {"answer": signature(export.answer(policy.model, preprocess.target_length))}
    for dataset, table in export.tables(policy).items():
        functions[name_of(dataset)] = signature(export.act(policy.model), table)
    for name, function in functions.items():
        setattr(module, name, function)
    return module, functions


def _plain(decoded: dict[str, Any]) -> dict[str, Any]:
    return {key: decoded[key] for key in ("tokens", "log_prob")}


def _check(tf: Any, policy: Policy, out: pathlib.Path, images: dict[str, np.ndarray]) -> None:
    """Decodes one observation of every data set with what was written."""
    loaded, preprocess = tf.saved_model.load(str(out)), policy.preprocess
    word = export.fitting_words(policy)[0]
    seen = {camera: images[f"0/{camera}"] for camera in preprocess.cameras}
    image = preprocess.image_stack(preprocess.frames(seen))
    for dataset in preprocess.codecs:
        codec = preprocess.state_codecs.get(dataset)
        state = None if codec is None else np.array(codec.low)
        prefix = preprocess.action_prefix(word, preprocess.state(dataset, state))
        rows = {"image": tf.constant(image[None]), "prefix": tf.constant(prefix[None])}
        made = loaded.signatures[name_of(dataset)](**rows)["tokens"].numpy()[0]
        asked = {"image": seen, "instruction": word, "dataset": dataset, "state": state}
        wanted = policy.infer({k: v for k, v in asked.items() if v is not None})["tokens"]
        if not np.array_equal(made, wanted):
            raise export.ExportError(f"{out}: {dataset} gives {made}, the policy {wanted}")
