"""What a client may say beside the observation: who asks, in which order, and until when.

All of it is optional; openpi's clients send none of it. `id` comes back with the reply, `seq` must
grow within a connection, `deadline_ms` bounds the wait, `arm` names the arm that only one client
may move, `reset` (without an observation) begins a new episode.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from rt2.inference import observation
from rt2.inference.refusal import Refusal

DEADLINE_MS = (1, 10_000, 60_000)  # least, default, most
NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
KEYS = ("id", "seq", "deadline_ms", "arm", "reset")


@dataclasses.dataclass(frozen=True)
class Request:
    """One request, checked. `observation` is empty where `reset` is set."""

    observation: dict[str, Any]
    id: str | None
    seq: int | None
    seconds: float  # until the deadline, from its arrival
    arm: str | None
    reset: bool

    @property
    def needs(self) -> str:
        """The least role that may ask for it."""
        moves = self.arm is not None or (not self.reset and self.kind[0] != "vqa")
        return "act" if moves else "ask"

    @property
    def kind(self) -> tuple[str, str]:
        """Mode and data set: rows that may be decoded in one batch have the same."""
        mode = self.observation.get("mode", "action")
        return mode, self.observation.get("dataset", "") if mode != "vqa" else ""


def read(message: Any, cameras: Sequence[str]) -> Request:
    """The request of a decoded message to a model of these cameras.

    Raises Refusal (bad_request) naming the field.
    """
    if not isinstance(message, dict):
        raise Refusal("bad_request", f"observation: {type(message).__name__}, expected a map")
    about = _name(message, "id", None)
    try:
        reset = message.get("reset", False)
        if type(reset) is not bool:
            raise Refusal("bad_request", "reset: expected true or false")
        seen = {key: value for key, value in message.items() if key not in KEYS}
        return Request(
            {} if reset and not seen else observation.read(seen, cameras),
            about,
            _whole(message, "seq", 0, 2**63 - 1),
            1e-3
            * (_whole(message, "deadline_ms", DEADLINE_MS[0], DEADLINE_MS[2]) or DEADLINE_MS[1]),
            _name(message, "arm", about),
            reset,
        )
    except Refusal as refusal:
        refusal.about = about
        raise
    except observation.ObservationError as error:
        raise Refusal("bad_request", str(error), about=about) from None


def _name(message: dict[str, Any], key: str, about: str | None) -> str | None:
    name = message.get(key)
    if name is not None and not (isinstance(name, str) and NAME.fullmatch(name)):
        raise Refusal(
            "bad_request", f"{key}: expected 1 to 64 letters, digits, _ . or -", about=about
        )
    return name


def _whole(message: dict[str, Any], key: str, least: int, most: int) -> int | None:
    number = message.get(key)
    if number is not None and not (type(number) is int and least <= number <= most):
        raise Refusal("bad_request", f"{key}: expected a whole number of {least}..{most}")
    return number
