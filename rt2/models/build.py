"""A model as a value: its structure apart from its parameters.

Parameters are a flat dict from a path such as "text/encoder/mlp/wide/kernel" to an array. The same
names appear in checkpoints, sharding tables, safetensors files and error messages.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rt2.models.decoder_only import DecoderConfig
from rt2.models.encoder_decoder import TextConfig
from rt2.models.pali import Pali, PaliConfig
from rt2.models.palme import Palme, PalmeConfig
from rt2.models.vision_language import VisionLanguage
from rt2.models.vit import ViTConfig

Params = dict[str, jax.Array]
Config = PaliConfig | PalmeConfig
SCALE = ":scale"  # behind the path of a matrix: its scales, where it is narrow
FAMILIES = {PaliConfig: Pali, PalmeConfig: Palme}


@dataclasses.dataclass(frozen=True)
class Model:
    """The module tree of `config`, without arrays; the type of `config` decides the family."""

    config: Config

    def _make(self, rngs: nnx.Rngs) -> VisionLanguage:
        return FAMILIES[type(self.config)](self.config, rngs=rngs)

    @functools.cached_property
    def _abstract(self) -> tuple[nnx.GraphDef, nnx.State]:
        return nnx.split(nnx.eval_shape(lambda: self._make(nnx.Rngs(0))))

    @functools.cached_property
    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of every parameter."""
        return _flat(self._abstract[1])

    @functools.cached_property
    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """Logical axis names of every parameter."""
        variables = nnx.to_flat_state(self._abstract[1])
        return {_path(keys): v.get_metadata("axes") for keys, v in variables}

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(shape.size for shape in self.shapes.values())

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters; call it under `jax.jit` with output shardings."""
        return _flat(nnx.state(self._make(nnx.Rngs(key))))

    def apart(self, params: Params) -> dict[str, jax.Array | list[jax.Array]]:
        """`params` with a list of arrays, one a layer, instead of each stack of layers.

        For decoding on one device: a loop over stacked layers copies what it reads of them every
        time. Programs grow with the number of layers in turn. Empties `params`, so that memory
        never holds two of each. Scales of narrow weights go with their matrices.
        """
        stacked = {path for path, axes in self.axes.items() if axes[0] == "layers"}
        return {
            path: list(params.pop(path))
            if path.removesuffix(SCALE) in stacked
            else params.pop(path)
            for path in list(params)
        }

    def together(self, params: dict[str, jax.Array | list[jax.Array]]) -> Params:
        """What `apart` was given."""
        return {path: jnp.stack(x) if isinstance(x, list) else x for path, x in params.items()}

    def module(self, params: Params) -> VisionLanguage:
        """The module with `params` in it; pure, for use inside jit."""
        graph, state = self._abstract
        variables = [(keys, v.replace(params[_path(keys)])) for keys, v in nnx.to_flat_state(state)]
        return nnx.merge(graph, nnx.from_flat_state(variables))

    def to_json(self) -> dict[str, Any]:
        """A plain dict that `from_json` reads back."""
        return dataclasses.asdict(self.config)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Model:
        """The model that `to_json` wrote."""
        family, text = PaliConfig, TextConfig
        if "layers" in data["text"]:  # one stack of them, not an encoder's and a decoder's
            family, text = PalmeConfig, DecoderConfig
        vision = {**data["vision"], "stem": tuple(data["vision"]["stem"])}
        return cls(
            family(
                vision=ViTConfig(**vision),
                text=text(**data["text"]),
                dtype=data["dtype"],
                remat=data["remat"],
            )
        )


def _path(keys: tuple) -> str:
    return "/".join(map(str, keys))


def _flat(state: nnx.State) -> dict[str, Any]:
    return {_path(keys): v.get_value() for keys, v in nnx.to_flat_state(state)}
