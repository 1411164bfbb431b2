"""config.init_from: which weights a run starts from, one for the whole or one for each part.

    --config.init_from=runs/tabletop                      our checkpoint, or our safetensors
    --config.init_from=paligemma/                         public weights, recognised by their names
    --config.init_from=siglip.safetensors,t5-large/       each fills the parts that it has
    --config.init_from=vision:paligemma.npz,text:mt5-xl/  only the named part of each

What no source fills is drawn anew.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from rt2 import checkpoint
from rt2.errors import ConfigError
from rt2.models.build import Model, Params
from rt2.models.vit import resample_positions
from rt2.models.weights import own
from rt2.models.weights.files import open_tensors
from rt2.models.weights.load import load
from rt2.models.weights.match import layout_of, parts_of
from rt2.preprocess import Preprocess
from rt2.tokenizer import Tokenizer

PARTS = ("vision", "projection", "text")
POSITION = "vision/position"  # the one parameter whose shape goes by the image size

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Source:
    """One of the weights of init_from; an empty `part` takes everything that it has."""

    path: str
    part: str

    @property
    def is_checkpoint(self) -> bool:
        """Whether it is a workdir or a step of our trainer."""
        path = pathlib.Path(self.path)
        return path.is_dir() and any((path / name).is_dir() for name in ("checkpoints", "assets"))

    @functools.cached_property
    def assets(self) -> dict[str, Any] | None:
        """The description that travels with our own weights; None for public ones."""
        if self.is_checkpoint:
            return checkpoint.read_json(checkpoint.find(self.path), "assets")
        assets = own.described(open_tensors(self.path))
        if assets is not None and assets["format"] != checkpoint.FORMAT:
            raise checkpoint.CheckpointError(
                f"{self.path}: format {assets['format']}, this code reads {checkpoint.FORMAT}"
            )
        return assets

    @property
    def has_text(self) -> bool:
        """Whether it fills the text model, whose tables belong to one tokenizer."""
        if self.part or self.assets is not None:
            return self.part in ("", "text")
        return "text" in parts_of(layout_of(open_tensors(self.path)))


def read(init_from: str) -> tuple[Source, ...]:
    """The sources that `init_from` lists. Raises ConfigError for a path that does not exist."""
    sources = []
    for entry in filter(None, init_from.split(",")):
        part, colon, path = entry.partition(":")
        source = Source(path, part) if colon and part in PARTS else Source(entry, "")
        if not pathlib.Path(source.path).exists():
            raise ConfigError(
                f"init_from: {source.path}: no such file or folder; an entry is a path, or one of "
                f"{', '.join(f'{p}:' for p in PARTS)} and a path. Leave it empty to train from "
                "scratch"
            )
        if source.part and source.is_checkpoint:
            raise ConfigError(
                f"init_from: {entry}: a checkpoint is taken whole; write its weights with "
                "`python -m rt2.inference.export --format safetensors` to take a part"
            )
        sources.append(source)
    return tuple(sources)


def tokenizer(init_from: str) -> Tokenizer | None:
    """The tokenizer of our own text weights, None where init_from has no text weights.

    Raises ConfigError for public text weights, which do not carry theirs.
    """
    for source in read(init_from):
        if source.has_text and source.assets is None:
            raise ConfigError(
                f"init_from: {source.path}: its tokenizer is not in it. Name the SentencePiece "
                "model that belongs to these weights: --config.tokenizer.path=.../spiece.model"
            )
        if source.has_text:
            return Preprocess.from_json(source.assets["preprocess"]).tokenizer
    return None


def load_params(
    init_from: str, model: Model, shardings: Mapping[str, Any], wanted: Preprocess
) -> Params:
    """The parameters of `model` that init_from has, placed as `shardings` says.

    Tables of another number of rows are fitted, positions of another image size resampled. Raises
    CheckpointError or WeightsError where model or tokenizer are others, and ConfigError where two
    sources fill the same.
    """
    params: Params = {}
    for source in read(init_from):
        _check_tokenizer(source, wanted)
        if source.is_checkpoint:
            more = _from_checkpoint(source, model, shardings)
        else:
            if source.assets is not None:
                own.verify(open_tensors(source.path))
            more = load(source.path, model, shardings, part=source.part)
        if twice := sorted(set(params) & set(more)):
            raise ConfigError(
                f"init_from: {source.path} and another source both have {twice[0]}: name the part "
                f"to take from each, such as {twice[0].split('/')[0]}:{source.path}"
            )
        params |= more
    drawn = sorted({path.split("/")[0] for path in model.shapes if path not in params})
    if params and drawn:
        log.info("init_from has no %s: drawn anew", ", ".join(drawn))
    return params


def check_frozen(frozen: tuple[str, ...], model: Model, loaded: Params) -> None:
    """Raises ConfigError where a parameter that was drawn anew would never be trained."""
    for path in model.shapes:
        if path.startswith(frozen) and path not in loaded:
            raise ConfigError(
                f"config.frozen={frozen} keeps {path} as init_from has it, which does not have it"
            )


def _check_tokenizer(source: Source, wanted: Preprocess) -> None:
    if not source.has_text or source.assets is None:
        return
    saved = Preprocess.from_json(source.assets["preprocess"]).tokenizer
    if saved.digest != wanted.tokenizer.digest:
        raise checkpoint.CheckpointError(
            f"{source.path}: trained with another tokenizer. Leave --config.tokenizer.path empty"
        )


def _from_checkpoint(source: Source, model: Model, shardings: Mapping[str, Any]) -> Params:
    saved = Model.from_json(source.assets["model"])
    rows, wanted = (
        {path: [str(s.dtype), list(s.shape)] for path, s in some.shapes.items()}
        for some in (saved, model)
    )
    checkpoint.compare(source.path, rows, wanted | {POSITION: rows[POSITION]})
    params = checkpoint.read_params(checkpoint.find(source.path), saved, shardings)
    resample = jax.jit(
        functools.partial(resample_positions, tokens=model.config.vision.tokens),
        out_shardings=shardings[POSITION],
    )
    return params | {POSITION: resample(params[POSITION])}
