"""The ways to ask a policy for an action that the ablations compare."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from rt2 import prompts
from rt2.evaluate.agents import TABLETOP
from rt2.inference.policy import Policy

_BINS = re.compile(r"\s*(\d+) (\d+)\s*")


class Planned:
    """Has the policy write a plan in words before each action."""

    def __init__(self, policy: Policy):
        self.policy, self.preprocess = policy, policy.preprocess

    def infer_batch(self, observations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """One reply for each observation, its action in `actions`."""
        return self.policy.infer_batch([one | {"mode": "plan"} for one in observations])


class Free:
    """Has the policy answer without the grammar of actions, and reads the text as an action.

    A reply lacks `actions` where the text is not two integers that are bins.
    """

    def __init__(self, policy: Policy):
        self.policy, self.preprocess = policy, policy.preprocess
        self.codec = policy.preprocess.codecs[TABLETOP]

    def infer_batch(self, observations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """One reply for each observation, in order."""
        asked = [
            {
                "image": one["image"],
                "instruction": prompts.action_prompt(one["instruction"]),
                "mode": "vqa",
            }
            for one in observations
        ]
        return [self._read(reply["text"]) for reply in self.policy.infer_batch(asked)]

    def _read(self, text: str) -> dict[str, Any]:
        found = _BINS.fullmatch(text)
        bins = [int(number) for number in found.groups()] if found else []
        fits = bins and all(
            number < most for number, most in zip(bins, self.codec.spec.bins, strict=True)
        )
        actions = {"actions": self.codec.decode(np.array(bins))[None]} if fits else {}
        return actions | {"terminate": False}


WAYS = {"constrained": lambda policy: policy, "plan": Planned, "free": Free}
