"""CIDEr-D of captions (Vedantam et al. 2015), by pycocoevalcap: the extra `captions`."""

import importlib.util
from collections.abc import Sequence

LIBRARY = "pycocoevalcap"


def installed() -> bool:
    """Whether captions can be scored here."""
    return importlib.util.find_spec(LIBRARY) is not None


def cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """How alike each caption and its references are, in 0 (nothing) to 10 (equal), on average.

    A phrase weighs the less, the more pictures' references have it, so that all pictures of one
    evaluation belong into one call. Words are what spaces part. Raises ValueError for fewer than
    two pictures, of which no weight can be told.
    """
    from pycocoevalcap.cider.cider import Cider

    if len(captions) < 2:
        raise ValueError("CIDEr weighs phrases by the pictures that have them: it needs two")
    given = {i: [caption] for i, caption in enumerate(captions)}
    wanted = {i: list(answers) for i, answers in enumerate(references)}
    value, _ = Cider().compute_score(wanted, given)
    return float(value)
