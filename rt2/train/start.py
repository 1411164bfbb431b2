"""What a run starts from: tokenizer, action vocabulary, pre-trained parameters."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import safetensors
import safetensors.numpy

from rt2 import checkpoint
from rt2.errors import ConfigError
from rt2.models import variants
from rt2.models.build import Model, Params
from rt2.models.vit import resample_positions
from rt2.preprocess import Preprocess
from rt2.tokenizer import ActionVocabulary, Tokenizer
from rt2.train import inputs

CORPUS_ROWS = 40_000  # web rows that a tokenizer is trained on
VOCABULARIES = ("integer", "overwrite")
POSITION = "vision/position"  # the one parameter whose shape goes by the image size

log = logging.getLogger(__name__)


def make_preprocess(
    config: ml_collections.ConfigDict, sources: Mapping[str, inputs.Source], workdir: pathlib.Path
) -> Preprocess:
    """The preprocessing that the config and its data call for."""
    codecs = inputs.fit_codecs(sources)
    tokenizer = make_tokenizer(config, sources, workdir)
    specs = [codec.spec for codec in codecs.values()]
    widest = max(specs, key=lambda spec: max(spec.bins)) if specs else None
    if config.action_vocabulary not in VOCABULARIES:
        raise ConfigError(
            f"action_vocabulary={config.action_vocabulary!r}: expected one of {VOCABULARIES}"
        )
    if widest is None:
        vocabulary = ActionVocabulary("integer", ())
    elif config.action_vocabulary == "integer":
        vocabulary = ActionVocabulary.integer(tokenizer, widest)
    else:
        text = inputs.corpus(sources, CORPUS_ROWS)
        vocabulary = ActionVocabulary.overwrite(tokenizer, widest, text)
    return Preprocess(
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        codecs=codecs,
        image_size=variants.vision(config.model.variant, config.model.image_size).image_size,
        history=config.history,
        prefix_length=config.prefix_length,
        target_length=config.target_length,
    )


def make_tokenizer(
    config: ml_collections.ConfigDict, sources: Mapping[str, inputs.Source], workdir: pathlib.Path
) -> Tokenizer:
    """The tokenizer of config.tokenizer.path, of init_from, or a new one kept in `workdir`."""
    kept = workdir / "tokenizer.model"
    if config.tokenizer.path:
        return Tokenizer(pathlib.Path(config.tokenizer.path).read_bytes())
    if config.init_from:
        return read_start(config.init_from)[1].tokenizer
    while jax.process_index() and not kept.exists():
        time.sleep(0.5)  # process 0 trains it; if it fails, it ends this one too
    if kept.exists():
        return Tokenizer(kept.read_bytes())
    log.info("training a tokenizer of %d pieces", config.tokenizer.vocab_size)
    text = inputs.corpus(sources, CORPUS_ROWS)
    tokenizer = Tokenizer.train(text, config.tokenizer.vocab_size, config.tokenizer.sentinels)
    part = kept.with_suffix(".part")
    part.write_bytes(tokenizer.model)
    part.rename(kept)  # whole or not there, for those who wait for it
    return tokenizer


def read_start(path: str) -> tuple[Model, Preprocess]:
    """Model and preprocessing of a safetensors file or a checkpoint."""
    return _described(path, _assets(path))


def load_params(
    path: str, model: Model, shardings: Mapping[str, Any], wanted: Preprocess
) -> Params:
    """Parameters of `path` for `model`, placed as `shardings` says.

    Position embeddings of another image size are resampled. Raises CheckpointError where the model
    or the tokenizer is another one.
    """
    saved, preprocess = read_start(path)
    if preprocess.tokenizer.digest != wanted.tokenizer.digest:
        raise checkpoint.CheckpointError(
            f"{path}: trained with another tokenizer. Leave --config.tokenizer.path empty"
        )
    rows = _rows(saved)
    checkpoint.compare(path, rows, _rows(model) | {POSITION: rows[POSITION]})
    params = _read(path, saved, shardings)
    resample = jax.jit(
        functools.partial(resample_positions, tokens=model.config.vision.tokens),
        out_shardings=shardings[POSITION],
    )
    return params | {POSITION: resample(params[POSITION])}


def _read(path: str, model: Model, shardings: Mapping[str, Any]) -> Params:
    if not path.endswith(".safetensors"):
        return checkpoint.read_params(checkpoint.find(path), model, shardings)
    arrays = safetensors.numpy.load_file(path)
    return {
        name: jax.device_put(jnp.asarray(array, jnp.float32), shardings[name])
        for name, array in arrays.items()
    }


def write_safetensors(path: pathlib.Path, params: Params, assets: Mapping[str, Any]) -> None:
    """Parameters as bfloat16, with what describes them in the file's metadata."""
    arrays = {name: jax.device_get(array.astype(jnp.bfloat16)) for name, array in params.items()}
    described = {key: assets[key] for key in ("format", "model", "preprocess")}
    metadata = {"assets": json.dumps(described, sort_keys=True), "digest": _digest(arrays)}
    safetensors.numpy.save_file(arrays, path, metadata=metadata)


def _assets(path: str) -> dict[str, Any]:
    if not path.endswith(".safetensors"):
        return checkpoint.read_json(checkpoint.find(path), "assets")
    if not pathlib.Path(path).is_file():
        raise checkpoint.CheckpointError(
            f"init_from={path}: no such file; leave it empty to train from scratch"
        )
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    if _digest(safetensors.numpy.load_file(path)) != metadata["digest"]:
        raise checkpoint.DamagedCheckpointError(f"{path}: its bytes are not what was written")
    return json.loads(metadata["assets"])


def _described(path: str, assets: Mapping[str, Any]) -> tuple[Model, Preprocess]:
    return Model.from_json(assets["model"]), Preprocess.from_json(assets["preprocess"])


def _rows(model: Model) -> dict[str, list]:
    return {path: [str(s.dtype), list(s.shape)] for path, s in model.shapes.items()}


def _digest(arrays: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + arrays[name].tobytes())
    return digest.hexdigest()
