"""Under what conditions a policy is judged, after Tables 4 to 6 of RT-2 (Brohan et al. 2023).

    seen                objects of the robot data, on boards like theirs
    web_only            objects of the web shards alone: unseen objects, easy
    held_out            objects of no data: unseen objects, hard
    backgrounds_easy    seen objects on boards of other colours
    backgrounds_hard    ... on striped, checked, mottled, graded and noisy ones
    arrangements        ... five of them
    languages           seen objects, named in Spanish, French or German
    category, colour, reasoning
                        seen objects that the instruction describes instead of naming
    symbol              symbols of the web shards

What the last four say stands in `phrases/`: text -> the English names that it describes. What else
lies on the board is described by another text of the same list.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from rt2.sim import descriptions, pictograms, splits

FOREIGN = tuple(language for language in pictograms.LANGUAGES if language != "en")
OBJECTS = 3  # on a board, if no number is asked for
_STREAM = 1707  # keeps what is drawn here apart from what the environment draws from its seed


@dataclasses.dataclass(frozen=True)
class Condition:
    """pool: a field of `splits.Splits`; background: of `backgrounds.BOARDS`; phrases: a list."""

    pool: str = "seen_by_robot"
    num_objects: int | None = None
    background: str = "board"
    languages: tuple[str, ...] = ("en",)
    phrases: str | None = None

    def options(self, seed: int, objects: int = OBJECTS) -> dict[str, Any]:
        """Returns the reset options of `TabletopEnv` for the episode of this seed.

        objects: how many lie on the board where the condition leaves it open.
        """
        rng = np.random.default_rng([_STREAM, seed])
        pool = getattr(splits.load(), self.pool)
        found: dict[str, Any] = {"background": self.background}
        found["language"] = language = str(rng.choice(self.languages))
        if language != "en":  # a name that is the same in English would tell nothing
            translate = pictograms.load().translate
            pool = tuple(name for name in pool if translate(name, language) != name)
        found["pool"] = pool
        found["num_objects"] = self.num_objects or objects
        if self.phrases:
            found |= _described(rng, descriptions.phrases(self.phrases), pool, objects)
        return found


CONDITIONS = {
    "seen": Condition(),
    "web_only": Condition("web_only"),
    "held_out": Condition("held_out"),
    "backgrounds_easy": Condition(background="plain"),
    "backgrounds_hard": Condition(background="patterned"),
    "arrangements": Condition(num_objects=5),
    "languages": Condition(languages=FOREIGN),
    "category": Condition(phrases="category"),
    "colour": Condition(phrases="colour"),
    "reasoning": Condition(phrases="reasoning"),
    "symbol": Condition("web_only", phrases="symbol"),
}


def _described(
    rng: np.random.Generator,
    known: dict[str, tuple[str, ...]],
    pool: tuple[str, ...],
    objects: int,
) -> dict[str, Any]:
    """A text, an object of the pool that it describes, and others that it does not."""
    fitting = {said: [n for n in names if n in pool] for said, names in known.items()}
    said = str(rng.choice([said for said, names in fitting.items() if names]))
    others = sorted({n for names in fitting.values() for n in names} - set(known[said]))
    chosen = rng.choice(others, objects - 1, replace=False)
    return {"objects": (str(rng.choice(fitting[said])), *map(str, chosen)), "say": said}
