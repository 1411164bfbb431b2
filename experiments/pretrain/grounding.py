"""Stage 0: pictures and words come to share a space, before any decoder is trained.

PaLI-3 begins from a contrastively trained vision tower; here the dense rows of the web shards
("5 20 hammer 12 30 strawberry") give the pairs. Four losses, each a softmax:

    name    the visual token at an object's place, against all names of the row's language
    place   the object's name, against all visual tokens of its picture
    where   the object's x and y, read from that visual token
    bound   the object's x and y, read from its name after the encoder has seen name and picture

The last two read through a matrix that is thrown away, against the embeddings of the integers.

Shapes: B rows, O objects of a row, P visual tokens, D text width, C names, W words of a name.
"""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from rt2.data.mixture import Mixture
from rt2.data.vqa import WebExamples
from rt2.models.build import Model, Params
from rt2.preprocess import Preprocess
from rt2.sim import descriptions
from rt2.sim.questions import LOCATION_GRID
from rt2.tokenizer import PAD
from rt2.train.optimizer import make_optimizer

TRAINED = ("vision/", "projection/", "text/embedding", "text/encoder")
WEIGHTS = {"name": 1.0, "place": 0.5, "where": 0.5, "bound": 0.5}
OBJECTS = 4  # of one scene at most
WORDS = 6  # tokens of one name; the rest of a longer one is left out
FIRST_WORD = 3  # the tokens before it are padding, end and unknown
SHARPNESS = 15.0  # first factor on the cosine; learnt from there
NEAR = 2  # cells of the raster: a place this close counts as right in the figures

_QUESTION = re.compile(r"Answer in (\w+) : list every object")
_WHERE = re.compile(r"Answer in en : where is the (.+)")
_OBJECT = re.compile(r"(\d+) (\d+) ([^\d]+?)(?= \d|$)")
# what the web says of a thing beside its name -> the list that says it
DESCRIBED = {said: name for name in descriptions.SHARED for said in descriptions.phrases(name)}


class PlacedRows:
    """Rows of the web shards that place things: image, places, name numbers, other words.

    Those that list every object; with `sentences` also those that ask where a thing is of which
    only the kind or the colour is said, each list of such words being a "language" of its own.

    places: int32 [O, 2], cells x and y of the raster, -1 where there is no object. around: int32
    [O, W], random tokens that fill up the text around the names, more of them in some rows than in
    others; padding without `sentences`.
    """

    def __init__(self, examples: WebExamples, preprocess: Preprocess, sentences: bool):
        self.examples, self.preprocess, self.sentences = examples, preprocess, sentences
        self.rows: list[tuple[int, list[tuple[int, int, str, str]]]] = []
        for i in range(len(examples)):
            question, answers = examples.text(i)
            if asked := _QUESTION.fullmatch(question):
                found = _OBJECT.findall(answers[0])
                self.rows.append((i, [(int(x), int(y), asked[1], name) for x, y, name in found]))
            elif sentences and (said := _WHERE.fullmatch(question)) and said[1] in DESCRIBED:
                x, y = map(int, answers[0].split())
                self.rows.append((i, [(x, y, DESCRIBED[said[1]], said[1])]))
        named = {(language, name) for _, row in self.rows for _, _, language, name in row}
        self.names = sorted(named)
        self._number = {name: i for i, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        example, objects = self.rows[i]
        places, names = np.full((OBJECTS, 2), -1, np.int32), np.zeros(OBJECTS, np.int32)
        for k, (x, y, language, name) in enumerate(objects):
            places[k], names[k] = (x, y), self._number[language, name]
        image = self.preprocess.image_stack([self.examples[example].image])
        around = np.full((OBJECTS, WORDS), PAD, np.int32)
        if self.sentences:
            rng = np.random.default_rng(i)
            said = rng.random(around.shape) < rng.random()
            around[said] = rng.integers(FIRST_WORD, self.preprocess.tokenizer.size, said.sum())
        return {"image": image, "places": places, "names": names, "around": around}

    def name_tokens(self) -> np.ndarray:
        """int32 [C, W] tokens of every name, padded with 0."""
        tokens = np.full((len(self.names), WORDS), PAD, np.int32)
        for row, (_, name) in zip(tokens, self.names, strict=True):
            pieces = self.preprocess.tokenizer.encode(name)[:WORDS]
            row[: len(pieces)] = pieces
        return tokens

    def languages(self) -> np.ndarray:
        """int32 [C]: the language of every name, as a number."""
        known = sorted({language for language, _ in self.names})
        return np.array([known.index(language) for language, _ in self.names], np.int32)


def ground(
    model: Model,
    rows: PlacedRows,
    params: Params,
    *,
    optimizer: ml_collections.ConfigDict,
    steps: int,
    batch_size: int,
    seed: int,
    report: Callable[[int, dict[str, float]], None],
) -> Params:
    """`params` of `model` after training those of TRAINED; `report` is called every 50 steps.

    Reports the losses of a batch and, for each, the share of objects that it gets right.
    """
    trained = {path: x for path, x in params.items() if path.startswith(TRAINED)}
    rest = {path: x for path, x in params.items() if path not in trained}
    width = model.config.text.width
    heads = {
        "sharpness": jnp.full(2, jnp.log(SHARPNESS)),
        "xy": jax.random.normal(jax.random.key(seed), (2, width, width)) * width**-0.5,
    }
    loss = make_loss(model, rows)
    for_params = make_optimizer(optimizer, steps, model)
    for_heads = optax.adam(optax.cosine_decay_schedule(2e-3, steps))
    moments = for_params.init(trained), for_heads.init(heads)

    @jax.jit
    def step(trained, heads, moments, batch):
        def of_batch(trained, heads):
            return loss({**rest, **trained}, heads, batch)

        grads, figures = jax.grad(of_batch, argnums=(0, 1), has_aux=True)(trained, heads)
        changes, first = for_params.update(grads[0], moments[0], trained)
        head_changes, second = for_heads.update(grads[1], moments[1], heads)
        trained = optax.apply_updates(trained, changes)
        return trained, optax.apply_updates(heads, head_changes), (first, second), figures

    mixture = Mixture({"list": (rows, batch_size)}, batch_size, seed, transform=lambda row, _: row)
    stream = mixture.iterate(0, range(mixture.batch_size), threads=2, prefetch=4)
    for n in range(1, steps + 1):
        trained, heads, moments, figures = step(trained, heads, moments, next(stream))
        if n % 50 == 0 or n == steps:
            report(n, {name: float(value) for name, value in figures.items()})
    return {**rest, **trained}


def make_loss(model: Model, rows: PlacedRows) -> Callable:
    """(params, heads, batch) -> the weighted loss, and figures by name."""
    words, languages = jnp.asarray(rows.name_tokens()), jnp.asarray(rows.languages())
    integers = jnp.asarray(
        [rows.preprocess.tokenizer.encode(str(i))[0] for i in range(LOCATION_GRID)]
    )
    side = model.config.vision.image_size // model.config.vision.patch
    entropy = optax.softmax_cross_entropy_with_integer_labels

    def loss(params, heads, batch):
        module = model.module(params)
        sharpness = jnp.exp(heads["sharpness"])
        real, places = batch["places"][..., 0] >= 0, jnp.maximum(batch["places"], 0)
        row_column = places[..., ::-1] * side // LOCATION_GRID
        patch = row_column @ jnp.array([side, 1])
        visual = module.visual_tokens(batch["image"])  # [B, P, D]
        seen = jnp.take_along_axis(visual, patch[..., None], axis=1)  # [B, O, D]
        embedded = module.text.embed(words, visual.dtype) * (words != PAD)[..., None]
        names = _unit(embedded.sum(1))  # [C, D]

        by_name = sharpness[0] * jnp.einsum("bod,cd->boc", _unit(seen), names)
        same = languages[batch["names"]][..., None] == languages
        by_name = jnp.where(same, by_name, -jnp.inf)
        by_patch = sharpness[1] * jnp.einsum("bod,bpd->bop", names[batch["names"]], _unit(visual))

        def by_cell(x):
            """[B, O, 2, cells] of states [B, O, D]."""
            table = module.text.embedding[...][integers]
            return jnp.einsum("bod,kde,ne->bokn", _standard(x), heads["xy"], table)

        half = len(visual) // 2  # the encoder's share of the work is the larger one
        said = jnp.where(real[:half, :, None], words[batch["names"][:half]], PAD)
        bound = _read_names(module, visual[:half], said, batch["around"][:half])

        entropies = {
            "name": (entropy(by_name, batch["names"]), real),
            "place": (entropy(by_patch, patch), real),
            "where": (entropy(by_cell(seen), places).mean(-1), real),
            "bound": (entropy(by_cell(bound), places[:half]).mean(-1), real[:half]),
        }
        right = {
            "name": (by_name.argmax(-1) == batch["names"], real),
            "place": (by_patch.argmax(-1) == patch, real),
            "where": (_near(by_cell(seen), places), real),
            "bound": (_near(by_cell(bound), places[:half]), real[:half]),
        }
        figures = {f"{name}/loss": _mean(*pair) for name, pair in entropies.items()}
        figures |= {f"{name}/right": _mean(*pair) for name, pair in right.items()}
        return sum(WEIGHTS[name] * figures[f"{name}/loss"] for name in WEIGHTS), figures

    return loss


def _read_names(module, visual: jax.Array, said: jax.Array, around: jax.Array) -> jax.Array:
    """[B, O, D]: the mean state of each name, int [B, O, W], after the encoder.

    `around`, int [B, O, W], are the words where no name is.
    """
    b, patches, _ = visual.shape
    text = jnp.where(said == PAD, around, said).reshape(b, -1)
    x = jnp.concatenate([visual, module.text.embed(text, visual.dtype)], axis=1)
    mask = jnp.concatenate([jnp.ones((b, patches), bool), text != PAD], axis=1)
    states = module.text.encode(x, mask, remat="none").x[:, patches:]
    states = states.reshape(*said.shape, -1) * (said != PAD)[..., None]
    return states.sum(2) / jnp.maximum((said != PAD).sum(2), 1)[..., None]


def _near(logits: jax.Array, places: jax.Array) -> jax.Array:
    return (jnp.abs(logits.argmax(-1) - places) <= NEAR).all(-1)


def _mean(values: jax.Array, real: jax.Array) -> jax.Array:
    return (values * real).sum() / real.sum()


def _unit(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)


def _standard(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
