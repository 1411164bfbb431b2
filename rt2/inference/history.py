"""What a model reads of an episode's past: numpy alone, for the server and for scripts."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any, Protocol


class History:
    """The last `length` frames of one episode, as the model's images in a row."""

    def __init__(self, length: int):
        self._frames: collections.deque[Any] = collections.deque(maxlen=length)

    def shown(self, observation: Mapping[str, Any]) -> Mapping[str, Any]:
        """The observation with the earlier frames before its own, which is remembered.

        One that brings several frames itself, or asks a question, stays as it is.
        """
        image = observation["image"]
        asks = observation.get("mode", "action") == "vqa"
        if self._frames.maxlen == 1 or asks or isinstance(image, list | tuple):
            return observation
        if isinstance(image, Mapping):
            if len(image) != 1:
                return observation  # the policy says what is wrong
            image = next(iter(image.values()))
        self._frames.append(image)
        return {**observation, "image": list(self._frames)}

    def clear(self) -> None:
        """Begins another episode."""
        self._frames.clear()


class Infers(Protocol):
    """A policy, or a bundle's."""

    metadata: dict[str, Any]

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]: ...


class Episode:
    """A policy and the frames that one robot has seen; the frames of a step come once each."""

    def __init__(self, policy: Infers):
        self._policy, self._history = policy, History(policy.metadata["history"])

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to the frame of this step; raises what the policy raises."""
        return self._policy.infer(self._history.shown(observation))

    def reset(self) -> None:
        """Begins another episode."""
        self._history.clear()
