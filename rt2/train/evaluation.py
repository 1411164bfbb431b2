"""Evaluation while training: the policy as it stands, on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rt2.evaluate import actions, vqa
from rt2.inference.policy import Policy
from rt2.train.sources import Source

BATCH = 64


class Sample:
    """`count` examples of a source, spread evenly over it."""

    def __init__(self, examples: Any, count: int):
        count = min(count, len(examples))
        self.examples = examples
        self.chosen = np.linspace(0, len(examples) - 1, count).astype(int)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, i: int) -> Any:
        return self.examples[int(self.chosen[i])]


def evaluate(policy: Policy, sources: Mapping[str, Source], rows: int) -> dict[str, float]:
    """Figures of every evaluation source, named "NAME/figure".

    Robot sources: mean absolute error per dimension in its unit, token accuracy of decoded actions,
    the rate of false stops and that of instructions heeded (`rt2.evaluate.actions.compare`).
    Web sources: exact match of free answers, over all kinds and for each.
    """
    figures = {}
    for name, source in sources.items():
        sample = Sample(source.examples, rows)
        if source.kind == "robot":
            found = actions.compare(policy, source.spec, sample, BATCH)
            for slot in found["slots"]:
                unit = f"_{slot['unit']}" if slot["unit"] else ""
                figures[f"{name}/l1_{slot['name']}{unit}"] = slot["error"].value
            figures[f"{name}/action_token_accuracy"] = found["token_accuracy"].value
            figures[f"{name}/invalid_actions"] = found["invalid"]
            for key in ("false_stops", "heeded"):
                if found[key] is not None:
                    figures[f"{name}/{key}"] = found[key].value
        else:
            answered = list(vqa.ask(policy, sample, BATCH))
            figures[f"{name}/exact"] = np.mean([answer.exact for answer in answered])
            for kind in sorted({answer.kind for answer in answered}):
                right = [answer.exact for answer in answered if answer.kind == kind]
                figures[f"{name}/exact_{kind}"] = np.mean(right)
    return figures
