"""Stage 0: the vision tower learns to name what lies at a place, before any decoder is trained.

PaLI-3 begins from a contrastively trained vision tower; here the dense rows of the web shards
("5 20 hammer 12 30 strawberry") give the pairs. The visual token at an object's place is matched
with the mean embedding of its name against all names of the row's language, so that pictures and
words already share a space when the encoder-decoder begins to bind them.

Shapes: B rows, O objects of a row, P visual tokens, D text width, C names, W words of a name.
"""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rt2.data.mixture import Mixture
from rt2.data.vqa import WebExamples
from rt2.models.build import Model, Params
from rt2.preprocess import Preprocess
from rt2.sim.questions import LOCATION_GRID
from rt2.tokenizer import PAD

TRAINED = ("vision/", "projection/", "text/embedding")
OBJECTS = 4  # of one scene at most
WORDS = 24  # tokens of one name at most
SHARPNESS = 15.0  # first factor on the cosine; learnt from there

_QUESTION = re.compile(r"Answer in (\w+) : list every object")
_OBJECT = re.compile(r"(\d+) (\d+) ([^\d]+?)(?= \d|$)")


class ListRows:
    """The rows of the web shards that list every object, as image, places and name numbers."""

    def __init__(self, examples: WebExamples, preprocess: Preprocess, patches: int):
        self.examples, self.preprocess, self.patches = examples, preprocess, patches
        self.rows: list[tuple[int, list[tuple[int, str, str]]]] = []
        for i in range(len(examples)):
            question, answers = examples.text(i)
            if asked := _QUESTION.fullmatch(question):
                self.rows.append((i, self._objects(asked[1], answers[0])))
        named = {(language, name) for _, row in self.rows for _, language, name in row}
        self.names = sorted(named)
        self._number = {name: i for i, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        example, objects = self.rows[i]
        places, names = np.full(OBJECTS, -1, np.int32), np.zeros(OBJECTS, np.int32)
        for k, (place, language, name) in enumerate(objects):
            places[k], names[k] = place, self._number[language, name]
        image = self.preprocess.image_stack([self.examples[example].image])
        return {"image": image, "places": places, "names": names}

    def _objects(self, language: str, answer: str) -> list[tuple[int, str, str]]:
        side = self.patches
        return [
            (int(y) * side // LOCATION_GRID * side + int(x) * side // LOCATION_GRID, language, name)
            for x, y, name in _OBJECT.findall(answer)
        ]

    def name_tokens(self) -> np.ndarray:
        """int32 [C, W] tokens of every name, padded with 0."""
        rows = [self.preprocess.tokenizer.padded(n, WORDS, end=False) for _, n in self.names]
        return np.stack(rows)

    def languages(self) -> np.ndarray:
        """int32 [C]: the language of every name, as a number."""
        known = sorted({language for language, _ in self.names})
        return np.array([known.index(language) for language, _ in self.names], np.int32)


def train_towers(
    model: Model,
    rows: ListRows,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    report: Callable[[int, dict[str, float]], None],
) -> Params:
    """Fresh parameters of `model`, its towers trained; `report` is called every 50 steps."""
    params = jax.jit(model.init)(jax.random.key(seed))
    towers = {path: x for path, x in params.items() if path.startswith(TRAINED)}
    rest = {path: x for path, x in params.items() if path not in towers}
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, min(100, steps // 2), steps, 0.05 * learning_rate
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.05)
    )
    words, languages = jnp.asarray(rows.name_tokens()), jnp.asarray(rows.languages())

    def loss(trained, batch):
        module = model.module({**rest, **trained["towers"]})
        visual = module.visual_tokens(batch["image"])
        at = jnp.maximum(batch["places"], 0)[..., None]
        seen = _unit(jnp.take_along_axis(visual, at, axis=1))
        embedded = module.text.embed(words, seen.dtype) * (words != PAD)[..., None]
        named = _unit(embedded.sum(1))
        logits = jnp.exp(trained["sharpness"]) * jnp.einsum("bod,cd->boc", seen, named)
        same = languages[batch["names"]][..., None] == languages
        logits = jnp.where(same, logits, -jnp.inf)
        real = (batch["places"] >= 0).astype(jnp.float32)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, batch["names"])
        right = (logits.argmax(-1) == batch["names"]) * real
        return (entropy * real).sum() / real.sum(), right.sum() / real.sum()

    @jax.jit
    def step(trained, moments, batch):
        (value, accuracy), grads = jax.value_and_grad(loss, has_aux=True)(trained, batch)
        updates, moments = optimizer.update(grads, moments, trained)
        return optax.apply_updates(trained, updates), moments, value, accuracy

    trained = {"towers": towers, "sharpness": jnp.log(SHARPNESS)}
    moments = optimizer.init(trained)
    mixture = Mixture({"list": (rows, batch_size)}, batch_size, seed, transform=dict)
    stream = mixture.iterate(0, 0, 1, threads=2, prefetch=4)
    for n in range(1, steps + 1):
        batch = next(stream)
        trained, moments, value, accuracy = step(trained, moments, batch)
        if n % 50 == 0 or n == steps:
            report(n, {"loss": float(value), "accuracy": float(accuracy)})
    return {**rest, **trained["towers"]}


def _unit(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)
