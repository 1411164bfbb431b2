"""Episodes whose flags contradict RLDS, found in the index pass.

RLDS: `is_first` stands at step 0 only, `is_last` at the final step only, `is_terminal` at the final
step or nowhere; the final step has no action to learn, so an episode has at least two steps.
"""

from collections.abc import Mapping

import numpy as np

from rt2.data.format.features import Features

_BITS = {
    1: ("first_flag", "is_first does not stand at step 0 alone"),
    2: ("last_flag", "is_last does not stand at the final step alone"),
    4: ("terminal_flag", "is_terminal stands before the final step"),
    8: ("one_step", "the episode has one step: no action to learn"),
}


def oddities(features: Features, arrays: Mapping[str, Mapping[str, np.ndarray]], steps: int) -> int:
    """The bits of what is odd about an episode; `arrays` are its columns by leaf."""
    if not features.episodic:
        return 0
    odd = 8 if steps == 1 else 0
    for leaf in features.at("step"):
        if leaf.kind != "number" or leaf.shape or not leaf.name.startswith("is_"):
            continue
        at = np.flatnonzero(arrays[leaf.key][f"{leaf.key}.value"]).tolist()
        odd |= 1 if leaf.name == "is_first" and at != [0] else 0
        odd |= 2 if leaf.name == "is_last" and at != [steps - 1] else 0
        odd |= 4 if leaf.name == "is_terminal" and at not in ([], [steps - 1]) else 0
    return odd


def odd_codes(bits: int) -> list[tuple[str, str]]:
    """(reason code, words) of every set bit."""
    return [words for bit, words in _BITS.items() if bits & bit]


def count(bits: np.ndarray) -> dict[str, int]:
    """How many episodes have each reason code, of the column `record.odd`; codes that occur."""
    counts = {code: int(np.count_nonzero(bits & bit)) for bit, (code, _) in _BITS.items()}
    return {code: number for code, number in counts.items() if number}
