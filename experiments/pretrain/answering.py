"""Stage 1: the decoder learns to answer, the grounded towers and encoder being frozen.

A decoder without training would tear them apart: its first gradients are noise (Kumar et al. 2022).
It learns first to say where a named thing is among others, then to answer all of the web's rows.
"""

from collections.abc import Callable

import grounding
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rt2.data.mixture import Draw, Mixture
from rt2.data.vqa import WebExamples
from rt2.models.build import Model, Params
from rt2.preprocess import Preprocess
from rt2.prompts import action_prompt, where_prompt
from rt2.sim import descriptions
from rt2.train.optimizer import make_optimizer
from rt2.train.rows import WebRow
from rt2.train.step import StepSettings, TrainState, split_frozen, train_step

# The robot's question is one of the frames, so that a name is found in it too, also one in another
# language; its answer is a place here, as of any question about the web.
FRAMES = {
    "ask": where_prompt,
    "move": lambda name, language: action_prompt(f"move to the {name}"),
    "go": lambda name, language: action_prompt(f"go to the {name}"),
    "reach": lambda name, language: action_prompt(f"reach the {name}"),
}
FRAME_SHARES = (0.4, 0.2, 0.2, 0.2)


class PlaceRows:
    """Model rows that ask for the place of one of several things, by its name or what it is called.

    Of pictures of a single thing the decoder would learn to answer without reading the name. A
    row that describes a thing is asked as often as one that lists several, whose names are many.
    """

    def __init__(self, examples: WebExamples, preprocess: Preprocess):
        self.examples, self.preprocess = examples, preprocess
        placed = grounding.PlacedRows(examples, preprocess, sentences=True).rows
        self.rows = [
            (i, objects)
            for i, objects in placed
            if len(objects) > 1 or objects[0][2] in descriptions.SHARED
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        example, objects = self.rows[i]
        rng = np.random.default_rng(i)
        x, y, language, name = objects[rng.integers(len(objects))]
        frame = FRAMES[rng.choice(list(FRAMES), p=FRAME_SHARES)]
        asked = "en" if language in descriptions.SHARED else language
        return {
            "image": self.preprocess.image_stack([self.examples[example].image]),
            "has_image": np.bool_(True),
            "prefix": self.preprocess.text_prefix(frame(name, asked)),
            "target": self.preprocess.text_target(f"{x} {y}"),
        }


class AllRows:
    """Model rows of the web's own questions."""

    def __init__(self, examples: WebExamples, preprocess: Preprocess):
        self.examples, self.make = examples, WebRow(preprocess, "first", None, 0)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        return self.make(self.examples[i], Draw("web", i, 0))


def teach(
    model: Model,
    sources: dict[str, tuple[PlaceRows | AllRows, int]],
    params: Params,
    *,
    optimizer: ml_collections.ConfigDict,
    steps: int,
    seed: int,
    report: Callable[[int, dict[str, float]], None],
    frozen: tuple[str, ...] = grounding.TRAINED,
) -> Params:
    """`params` after training on `sources`, rows and how many of them in a batch.

    frozen: beginnings of the parameters' paths that stay as they are.
    """
    settings = StepSettings(
        model=model,
        optimizer=make_optimizer(optimizer, steps, model),
        sources=len(sources),
        seed=seed,
        brightness=0.1,
        contrast=0.1,
        frozen=frozen,
    )
    trained, _ = split_frozen(settings, params)
    state = TrainState(jnp.zeros((), jnp.int32), params, settings.optimizer.init(trained))
    batch_size = sum(count for _, count in sources.values())
    mixture = Mixture(sources, batch_size, seed, transform=lambda row, _: row)
    stream = mixture.iterate(0, range(mixture.batch_size), threads=2, prefetch=4)
    step = jax.jit(lambda state, batch: train_step(settings, state, batch))
    for n in range(1, steps + 1):
        batch = {key: x for key, x in next(stream).items() if key != "example_index"}
        state, measured = step(state, batch)
        if n % 50 == 0 or n == steps:
            right = measured["correct"] / measured["tokens"]
            entropy = measured["entropy"] / measured["tokens"]
            figures = {f"{name}/loss": float(x) for name, x in zip(sources, entropy, strict=True)}
            figures |= {f"{name}/right": float(x) for name, x in zip(sources, right, strict=True)}
            report(n, figures)
    return state.params
