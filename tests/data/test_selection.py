"""Runs of chosen steps against a plain list of them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rt2.data import selection

EPISODES = st.lists(st.lists(st.booleans(), max_size=6), min_size=1, max_size=8)


@given(EPISODES)
@settings(deadline=None)
def test_runs_are_the_chosen_steps(episodes):
    first = np.concatenate([[0], np.cumsum([len(e) for e in episodes])])
    keep = np.array([k for e in episodes for k in e], bool)
    wanted = []
    for begin, episode in zip(first, episodes, strict=False):
        chosen = [begin + t for t, k in enumerate(episode) if k]
        wanted += [(row, row == chosen[-1]) for row in chosen]
    runs = selection._runs(keep, first)
    assert [runs[i] for i in range(len(runs))] == wanted
    assert runs.episodes == sum(any(episode) for episode in episodes)
    for begin in range(len(episodes)):
        for end in range(begin, len(episodes) + 1):
            part = slice(first[begin], first[end])
            np.testing.assert_array_equal(runs.mask(part.start, part.stop), keep[part])
