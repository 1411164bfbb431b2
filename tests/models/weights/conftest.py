"""Small models of the public kinds, their checkpoints drawn from names, and what they compute."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from rt2.models.build import Model
from rt2.models.decoder_only import DecoderConfig
from rt2.models.encoder_decoder import Memory, TextConfig
from rt2.models.pali import PaliConfig
from rt2.models.palme import PalmeConfig
from rt2.models.vit import ViTConfig, normalise
from rt2.models.weights import published
from rt2.models.weights.load import load

RECORDED = Path(__file__).parent / "recorded"

TOWER = ViTConfig(width=24, depth=2, mlp=40, heads=2, patch=4, image_size=12)
T5 = TextConfig(16, 24, 3, 8, encoder_layers=2, decoder_layers=3, vocab=128)
GEMMA = DecoderConfig(16, 40, 4, 1, 8, layers=2, vocab=128, activation="gelu", parallel=False)
VIT = dataclasses.replace(TOWER, class_token=True, activation="gelu_exact", norm_epsilon=1e-12)
MT5_ROWS = 250  # of the checkpoint; the model has 256


@dataclasses.dataclass(frozen=True)
class Case:
    """A public kind of checkpoint, and the model that it belongs in."""

    name: str
    model: Model
    shapes: dict[str, tuple[int, ...]]
    call: Callable  # (module, inputs) -> what is compared

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        return published.random_tensors(self.shapes)

    def load(self, path: Path, **more) -> dict[str, jax.Array]:
        """The model's parameters, those that the file lacks drawn."""
        one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shardings = dict.fromkeys(self.model.shapes, one)
        return fresh(self.model) | load(path, self.model, shardings, **more)

    def run(self, params: dict[str, jax.Array]) -> np.ndarray:
        return np.asarray(jax.jit(lambda p: self.call(self.model.module(p), inputs()))(params))


@functools.cache
def fresh(model: Model) -> dict[str, jax.Array]:
    return jax.jit(model.init)(jax.random.key(0))


@functools.cache
def inputs() -> dict[str, np.ndarray]:
    """Two rows of everything; one prefix is padded."""
    rng = np.random.default_rng(7)
    prefix = rng.integers(3, 120, (2, 7)).astype(np.int32)
    return {
        "image": rng.integers(0, 256, (2, 1, 12, 12, 3)).astype(np.uint8),
        "prefix": prefix,
        "mask": np.array([[1] * 7, [1] * 4 + [0] * 3], bool),
        "target": rng.integers(3, 120, (2, 5)).astype(np.int32),
    }


def seq2seq(module, x) -> jax.Array:
    text = module.text
    memory = text.encode(text.embed(x["prefix"], np.float32), x["mask"], "none")
    return text.logits(text.decode(x["target"], Memory(*memory), "none"))


def patches(module, x) -> jax.Array:
    return module.vision(normalise(x["image"][:, 0], np.float32), "none")


def causal(module, x) -> jax.Array:
    """With a prefix of one token, every later one sees what is before it."""
    text = module.text
    first = text.embed(x["prefix"][:, :1], np.float32)
    states = text.hidden(first, np.ones((2, 1), bool), x["prefix"][:, 1:], "none")
    return text.logits(states)


def whole(module, x) -> jax.Array:
    return module(x["image"], x["prefix"], x["target"])


def _pali(vision: ViTConfig = TOWER, text: TextConfig = T5, **more) -> Model:
    return Model(PaliConfig(vision, dataclasses.replace(text, **more), dtype="float32"))


def _cases() -> list[Case]:
    silu, mt5 = _pali(activation="silu"), _pali(vocab=MT5_ROWS)
    mt5_shapes = published.t5(mt5.config.text)
    mt5_shapes |= {name: (MT5_ROWS, 16) for name in ("shared.weight", "lm_head.weight")}
    palme = Model(PalmeConfig(TOWER, GEMMA, dtype="float32"))
    return [
        Case("t5", _pali(), published.t5(T5), seq2seq),
        Case("mt5", mt5, mt5_shapes, lambda m, x: seq2seq(m, x)[..., :MT5_ROWS]),
        Case("ul2", silu, published.t5(T5), seq2seq),
        Case("vit", _pali(vision=VIT), published.vit(VIT), patches),
        Case("siglip", _pali(), published.siglip(TOWER), patches),
        Case("gemma", palme, published.gemma(GEMMA), causal),
        Case("paligemma", palme, published.paligemma(palme.config), whole),
    ]


CASES = {case.name: case for case in _cases()}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request) -> Case:
    """Every public kind in turn."""
    return request.param


@pytest.fixture(scope="session")
def cases() -> dict[str, Case]:
    return CASES


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], np.ndarray]:
    """What `transformers` computed for a case."""

    def read(name: str) -> np.ndarray:
        with np.load(RECORDED / f"{name}.npz") as file:
            return file["outputs"]

    return read


@pytest.fixture(scope="session")
def record() -> Callable[[str, np.ndarray], None]:
    """Replaces what is kept of a case."""
    return lambda name, outputs: np.savez_compressed(RECORDED / f"{name}.npz", outputs=outputs)


@pytest.fixture(scope="session")
def batch() -> dict[str, np.ndarray]:
    return inputs()


@pytest.fixture
def write(tmp_path) -> Callable:
    """Writes tensors as one safetensors file of a folder and returns the file."""

    def write(tensors: dict[str, np.ndarray], name: str = "model.safetensors") -> Path:
        safetensors.numpy.save_file(
            {name: np.ascontiguousarray(x) for name, x in tensors.items()}, tmp_path / name
        )
        return tmp_path / name

    return write
