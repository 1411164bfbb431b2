"""Which objects are shown where: the one place that says so.

    seen by robot   in the robot episodes, and in the web shards
    web only        in the web shards alone: what a policy can have learnt from the web only
    held out        in no data set: the control

Names are the English ones of rt2.sim.pictograms.
"""

import dataclasses
import functools
import hashlib

from rt2.sim import pictograms

SEEN_BY_ROBOT = (
    *("strawberry", "banana", "pineapple", "watermelon", "grapes", "lemon", "carrot", "broccoli"),
    *("pizza", "doughnut", "hamburger", "mushroom", "cactus", "sunflower", "rose", "maple leaf"),
    *("hammer", "scissors", "anchor", "key", "magnet", "umbrella", "candle", "bell"),
    *("elephant", "penguin", "octopus", "butterfly", "turtle", "fox", "frog", "crab"),
    *("sailboat", "rocket", "helicopter", "tractor", "guitar", "drum", "crown", "balloon"),
)
HELD_OUT_COUNT = 100


@dataclasses.dataclass(frozen=True)
class Splits:
    """English names of each split; the three are disjoint and cover the catalogue."""

    seen_by_robot: tuple[str, ...]
    web_only: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def web(self) -> tuple[str, ...]:
        """What the web shards show."""
        return self.seen_by_robot + self.web_only

    @property
    def digest(self) -> str:
        """Changes with every change of any split: 16 hexadecimal digits."""
        lists = (self.seen_by_robot, self.web_only, self.held_out)
        return hashlib.sha256("\n\n".join(map("\n".join, lists)).encode()).hexdigest()[:16]


@functools.cache
def load() -> Splits:
    """Returns the splits of the pictograms at hand.

    Held out are the HELD_OUT_COUNT names of smallest SHA-256 among those the robot does not see, so
    the choice depends on no order and no random generator. Raises ValueError where SEEN_BY_ROBOT
    names a pictogram that does not exist, or one twice.
    """
    known = pictograms.load().names["en"]
    for name in SEEN_BY_ROBOT:
        if name not in known:
            raise ValueError(
                f"rt2/sim/splits.py, SEEN_BY_ROBOT: {pictograms.unknown_name(name, known)}"
            )
    if len(set(SEEN_BY_ROBOT)) != len(SEEN_BY_ROBOT):
        raise ValueError("rt2/sim/splits.py: SEEN_BY_ROBOT holds a name twice")
    unseen = sorted(set(known) - set(SEEN_BY_ROBOT), key=_digest)
    return Splits(
        SEEN_BY_ROBOT, tuple(sorted(unseen[HELD_OUT_COUNT:])), tuple(unseen[:HELD_OUT_COUNT])
    )


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
