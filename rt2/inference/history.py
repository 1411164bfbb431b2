"""What a model reads of an episode's past: numpy alone, for the server and for scripts."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class History:
    """The last `length` frames of one episode, of the first of the model's `cameras`."""

    def __init__(self, length: int, cameras: Sequence[str]):
        self._frames: collections.deque[Any] = collections.deque(maxlen=length)
        self._camera = cameras[0]

    def shown(self, observation: Mapping[str, Any]) -> Mapping[str, Any]:
        """The observation with the earlier frames before its own, which is remembered.

        One that brings several frames itself, or asks a question, stays as it is.
        """
        image = observation["image"]
        views = image if isinstance(image, Mapping) else {self._camera: image}
        camera = self._camera if len(views) > 1 else next(iter(views), None)
        asks = observation.get("mode", "action") == "vqa"
        if self._frames.maxlen == 1 or asks or camera not in views:
            return observation  # the policy says what is wrong with cameras
        if isinstance(views[camera], list | tuple):
            return observation
        self._frames.append(views[camera])
        frames = list(self._frames)
        return {**observation, "image": {**views, camera: frames} if len(views) > 1 else frames}

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
        self._policy, self._history = (
            policy,
            History(policy.metadata["history"], policy.metadata["cameras"]),
        )

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to the frame of this step; raises what the policy raises."""
        return self._policy.infer(self._history.shown(observation))

    def reset(self) -> None:
        """Begins another episode."""
        self._history.clear()
