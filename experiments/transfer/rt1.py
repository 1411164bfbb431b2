"""An RT-1-like policy on the robot rows alone: the paper's own baseline, a row of run.py.

    python experiments/transfer/run.py --rows=RT-1-like

As in RT-1 (Brohan et al. 2022): convolutions conditioned by the instruction (FiLM that begins as
the identity), TokenLearner, a transformer over the tokens, 256 values for every dimension of the
action. Other than there: the instruction is the mean of learnt embeddings of the project's pieces,
not a Universal Sentence Encoder; nothing is pre-trained; one image, 4 transformer layers.
Shapes: B batch, L pieces, H and W of the feature map, C channels, D width, K slots.
"""

import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import orbax.checkpoint as ocp
from flax import nnx

from rt2.data.mixture import Mixture
from rt2.models.layers import MLP, Attention, LayerNorm
from rt2.preprocess import Preprocess
from rt2.train.optimizer import make_schedule
from rt2.train.sources import open_sources
from rt2.train.start import make_preprocess
from rt2.train.step import augment

BINS = 256  # values of a head; those beyond a slot's own are never chosen
STAGES = (48, 96, 192)  # channels; each stage halves the picture
TOKENS, LAYERS, HEADS = 8, 4, 4
SAVE_INTERVAL = 100


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


def make_optimizer(model: Rt1, config: Any, steps: int) -> nnx.Optimizer:
    """That of the other rows (config.optimizer): Muon for matrices, AdamW for all else."""
    schedule = make_schedule(config, steps)
    update = optax.contrib.muon(
        schedule,
        weight_decay=config.weight_decay,
        adam_b1=config.b1,
        adam_b2=config.b2,
        adam_learning_rate=lambda step: config.adamw_rate * schedule(step),
        muon_weight_dimension_numbers=lambda params: jax.tree.map_with_path(_matrix, params),
        consistent_rms=0.2,
    )
    chain = optax.chain(optax.clip_by_global_norm(config.clip_norm), update)
    return nnx.Optimizer(model, chain, wrt=nnx.Param)


def _matrix(path: tuple, x: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
    """The axes of a kernel's inputs and outputs; a convolution's window is of its inputs."""
    name, axes = jax.tree_util.keystr(path), tuple(range(x.ndim))
    if "kernel" not in name:
        return None
    inputs = 1 if x.ndim == 3 and "'out'" not in name else x.ndim - 1
    return optax.contrib.MuonDimensionNumbers(axes[:inputs], axes[inputs:])


def fit(
    model: Rt1, optimizer: nnx.Optimizer, batches: Iterator[dict[str, Any]], noise: tuple
) -> Iterator[float]:
    """Trains in place, a step for each batch; yields the share of action tokens that were right.

    noise: brightness and contrast, as `rt2.train.step.augment` takes them.
    """

    @nnx.jit
    def step(model, optimizer, batch):
        key = jax.random.fold_in(jax.random.key(0), optimizer.step[...])
        batch = {**batch, "image": augment(batch["image"], key, *noise)}
        (_, right), gradients = nnx.value_and_grad(loss, has_aux=True)(model, batch)
        optimizer.update(model, gradients)
        return right

    for batch in batches:
        given = {name: batch[name] for name in ("image", "prefix", "bins")}
        yield float(step(model, optimizer, given))


def train(config: Any, workdir: pathlib.Path, seed: int) -> Policy:
    """A policy trained on the config's robot rows, as many of them as the config's own model sees.

    Goes on from the last checkpoint of `workdir`.
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
    optimizer = make_optimizer(model, config.optimizer, config.num_steps)
    noise = config.augment.brightness, config.augment.contrast
    with ocp.CheckpointManager(
        (workdir / "checkpoints").resolve(), options=ocp.CheckpointManagerOptions(max_to_keep=1)
    ) as kept:
        done = kept.latest_step() or 0
        if done:
            like = nnx.state((model, optimizer))
            nnx.update((model, optimizer), kept.restore(done, args=ocp.args.StandardRestore(like)))
        batches = mixture.iterate(done, range(rows), threads=1, prefetch=2)
        batches = itertools.islice(batches, config.num_steps - done)
        for number, right in enumerate(fit(model, optimizer, batches, noise), done + 1):
            if number % SAVE_INTERVAL == 0 or number == config.num_steps:
                print(f"step {number}: action tokens right {right:.3f}", flush=True)
                state = nnx.state((model, optimizer))
                kept.save(number, args=ocp.args.StandardSave(state))
    return Policy(model, preprocess)
