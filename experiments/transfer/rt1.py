"""An RT-1-like policy on the robot rows alone: the paper's own baseline.

    python experiments/transfer/rt1.py --config=configs/tabletop.py --workdir=runs/rt1
    python experiments/transfer/rt1.py --config=configs/tabletop.py --workdir=runs/rt1 --quick

As in RT-1 (Brohan et al. 2022): convolutions conditioned by the instruction (FiLM that begins as
the identity), TokenLearner, a transformer over the tokens, 256 values for every dimension of the
action. Other than there: the instruction is the mean of learnt embeddings of the project's pieces,
not a Universal Sentence Encoder; nothing is pre-trained; one image, 4 transformer layers.
Shapes: B batch, L pieces, H and W of the feature map, C channels, D width, K slots.
"""

import argparse
import itertools
import pathlib
import runpy
import sys
from collections.abc import Iterator, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402

from rt2.data.mixture import Mixture  # noqa: E402
from rt2.models.layers import MLP, Attention, LayerNorm  # noqa: E402
from rt2.preprocess import Preprocess  # noqa: E402
from rt2.train.sources import open_sources  # noqa: E402
from rt2.train.start import make_preprocess  # noqa: E402

BINS = 256  # values of a head; those beyond a slot's own are never chosen
STAGES = (48, 96, 192)  # channels; each stage halves the picture
TOKENS, LAYERS, HEADS = 8, 4, 4
LEARNING_RATE, WARMUP = 1e-3, 200


class Film(nnx.Module):
    """[B, H, W, C] scaled and shifted by the instruction [B, D]; the identity at the start."""

    def __init__(self, width: int, channels: int, rngs: nnx.Rngs):
        zeros = nnx.initializers.zeros
        self.both = nnx.Linear(width, 2 * channels, kernel_init=zeros, rngs=rngs)

    def __call__(self, x: jax.Array, text: jax.Array) -> jax.Array:
        scale, shift = jnp.split(self.both(text)[:, None, None], 2, -1)
        return x * (1 + scale) + shift


class Block(nnx.Module):
    """Halves the picture, then a residual convolution under the instruction."""

    def __init__(self, before: int, channels: int, width: int, rngs: nnx.Rngs):
        self.down = nnx.Conv(before, channels, (3, 3), strides=2, rngs=rngs)
        self.conv = nnx.Conv(channels, channels, (3, 3), rngs=rngs)
        self.norms = nnx.List([LayerNorm(channels, rngs=rngs) for _ in range(2)])
        self.film = Film(width, channels, rngs)

    def __call__(self, x: jax.Array, text: jax.Array) -> jax.Array:
        x = jax.nn.gelu(self.norms[0](self.down(x)))
        return x + jax.nn.gelu(self.film(self.norms[1](self.conv(x)), text))


class Layer(nnx.Module):
    """Attention and perceptron, each after a norm and beside a residual."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        head = width // HEADS
        self.attention = Attention(width, HEADS, head, bias=True, scale=head**-0.5, rngs=rngs)
        self.mlp = MLP(width, 4 * width, jax.nn.gelu, rngs=rngs)
        self.norms = nnx.List([LayerNorm(width, rngs=rngs) for _ in range(2)])

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))


class Rt1(nnx.Module):
    """Images uint8 [B, n, S, S, 3] and pieces int32 [B, L] (0 pads) -> logits [B, K, 256]."""

    def __init__(self, size: int, history: int, pieces: int, bins: Sequence[int], rngs: nnx.Rngs):
        width, cells = STAGES[-1], (size // 2 ** len(STAGES)) ** 2
        self.bins = tuple(bins)
        self.words = nnx.Embed(pieces, width, rngs=rngs)
        channels = itertools.pairwise((3, *STAGES))
        self.blocks = nnx.List([Block(a, b, width, rngs) for a, b in channels])
        self.place = nnx.Param(0.02 * jax.random.normal(rngs.params(), (cells, width)))
        self.order = nnx.Param(0.02 * jax.random.normal(rngs.params(), (history * TOKENS, width)))
        self.learner = nnx.Linear(width, TOKENS, rngs=rngs)
        self.layers = nnx.List([Layer(width, rngs) for _ in range(LAYERS)])
        self.norm = LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(history * TOKENS * width, len(bins) * BINS, rngs=rngs)

    def __call__(self, images: jax.Array, pieces: jax.Array) -> jax.Array:
        batch, history = images.shape[:2]
        text = self._instruction(pieces)
        x = images.reshape(-1, *images.shape[2:]).astype(jnp.float32) / 127.5 - 1
        for block in self.blocks:
            x = block(x, jnp.repeat(text, history, 0))
        x = x.reshape(len(x), -1, x.shape[-1]) + self.place[...]
        chosen = jax.nn.softmax(self.learner(x), axis=1)
        x = jnp.einsum("bsd,bst->btd", x, chosen).reshape(batch, -1, x.shape[-1]) + self.order[...]
        for layer in self.layers:
            x = layer(x)
        logits = self.head(self.norm(x).reshape(batch, -1)).reshape(batch, -1, BINS)
        return jnp.where(jnp.arange(BINS) < jnp.array(self.bins)[:, None], logits, -1e9)

    def _instruction(self, pieces: jax.Array) -> jax.Array:
        given = (pieces != 0)[..., None]
        return (self.words(pieces) * given).sum(1) / jnp.maximum(given.sum(1), 1)


class Policy:
    """The trained model behind the interface that rollouts ask."""

    def __init__(self, model: Rt1, preprocess: Preprocess):
        self.preprocess, self.model = preprocess, model
        self._best = nnx.jit(lambda model, *inputs: model(*inputs).argmax(-1))

    def infer_batch(self, observations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """{"actions": float32 [1, D], "tokens": int32 [K], "terminate": bool} of each."""
        preprocess, codec = self.preprocess, self.preprocess.codec()
        images = np.stack(
            [preprocess.image_stack(preprocess.frames(row["image"])) for row in observations]
        )
        pieces = np.stack([preprocess.action_prefix(row["instruction"]) for row in observations])
        best = np.asarray(self._best(self.model, images, pieces))
        return [
            {
                "actions": codec.decode(bins)[None],
                "tokens": preprocess.vocabulary.tokens(bins),
                "terminate": bool(codec.terminated(bins)),
            }
            for bins in best
        ]


def loss(model: Rt1, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Mean cross-entropy of the dimensions, and the share of bins that are right."""
    logits = model(batch["image"], batch["prefix"])
    each = optax.softmax_cross_entropy_with_integer_labels(logits, batch["bins"])
    return each.mean(), (logits.argmax(-1) == batch["bins"]).mean()


def fit(model: Rt1, batches: Iterator[dict[str, Any]], steps: int) -> list[float]:
    """Trains in place by AdamW; the accuracy of every step."""
    warmup = min(WARMUP, max(steps // 10, 1))
    schedule = optax.warmup_cosine_decay_schedule(0.0, LEARNING_RATE, warmup, max(steps, 2))
    chain = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-4))
    optimizer = nnx.Optimizer(model, chain, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, batch):
        (_, right), gradients = nnx.value_and_grad(loss, has_aux=True)(model, batch)
        optimizer.update(model, gradients)
        return right

    accuracy = []
    for number, batch in zip(range(steps), batches, strict=False):
        given = {name: batch[name] for name in ("image", "prefix", "bins")}
        accuracy.append(float(step(model, optimizer, given)))
        if number % 50 == 49:
            print(f"step {number + 1}: action tokens right {np.mean(accuracy[-50:]):.3f}")
    return accuracy


def train(config: Any, workdir: pathlib.Path, seed: int) -> Policy:
    """A policy trained on the config's robot rows, as many of them as the config's own model sees.

    A run is short: one that was stopped starts again. `workdir` keeps the tokenizer.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    sources = open_sources(config, "sources")
    preprocess = make_preprocess(config, sources, workdir)
    [robot] = [source for source in sources.values() if source.kind == "robot"]
    codec = preprocess.codec(robot.spec)
    rows = round(config.batch_size * robot.row.share)

    def row(example, draw):
        return {
            "image": preprocess.image_stack(example.images),
            "prefix": preprocess.action_prefix(example.instruction),
            "bins": codec.encode(example.action, example.terminate),
        }

    mixture = Mixture({robot.name: (robot.examples, rows)}, rows, seed, row)
    shape = preprocess.image_size, preprocess.history, preprocess.tokenizer.size
    model = Rt1(*shape, codec.spec.bins, nnx.Rngs(seed))
    fit(model, mixture.iterate(0, range(rows), threads=1, prefetch=2), config.num_steps)
    return Policy(model, preprocess)


def main() -> None:
    """Trains by a config file and prints how many action tokens are right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=pathlib.Path, default=ROOT / "configs" / "tabletop.py")
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, help="folder of the sources")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="100 steps")
    args = parser.parse_args()
    config = runpy.run_path(str(args.config))["get_config"]()
    if args.data:
        for source in config.sources.values():
            source.path = str(args.data.joinpath(*pathlib.Path(source.path).parts[1:]))
    if args.quick:
        config.num_steps = 100
    train(config, args.workdir, args.seed)


if __name__ == "__main__":
    main()
