"""Shares become whole rows, exact in every batch or over a period of batches."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt2.data.errors import DataError
from rt2.data.shares import Schedule, rows_from_shares


@pytest.mark.parametrize(
    ("shares", "size", "rows"),
    [
        ({"a": 0.5, "b": 0.5}, 7, {"a": 4, "b": 3}),
        ({"a": 2, "b": 1}, 64, {"a": 43, "b": 21}),
        ({"a": 0.66, "b": 0.3, "c": 0.04}, 32, {"a": 21, "b": 10, "c": 1}),
        ({"a": 1}, 5, {"a": 5}),
    ],
)
def test_rows_from_shares(shares, size, rows):
    assert rows_from_shares(shares, size) == rows


@given(
    shares=st.lists(st.floats(0.05, 1), min_size=1, max_size=5),
    size=st.integers(128, 512),
)
@settings(max_examples=50, deadline=None)
def test_rows_differ_from_the_shares_by_less_than_one(shares, size):
    named = {str(i): share for i, share in enumerate(shares)}
    rows = rows_from_shares(named, size)
    assert sum(rows.values()) == size
    for name, share in named.items():
        assert abs(rows[name] - size * share / sum(shares)) < 1


@given(
    shares=st.lists(st.floats(1e-4, 1), min_size=1, max_size=5),
    size=st.integers(1, 64),
)
@settings(max_examples=100, deadline=None)
def test_the_period_that_the_error_names_is_enough(shares, size):
    named = {str(i): share for i, share in enumerate(shares)}
    try:
        rows_from_shares(named, size)
    except DataError as error:
        period = int(str(error).split("share_period=")[1].split(" ")[0])
        rows = rows_from_shares(named, size, period)
        assert sum(rows.values()) == size * period and min(rows.values()) > 0


def test_wrong_shares():
    with pytest.raises(DataError, match="share of b is below one row of a batch of 8.*=13 is eno"):
        rows_from_shares({"a": 0.99, "b": 0.01}, 8)
    with pytest.raises(DataError, match="b is below one row of 3 batches of 8"):
        rows_from_shares({"a": 0.99, "b": 0.01}, 8, period=3)
    with pytest.raises(DataError, match="positive"):
        rows_from_shares({"a": 1.0, "b": 0.0}, 8)
    with pytest.raises(DataError, match="share_period=0"):
        rows_from_shares({"a": 1.0}, 8, period=0)
    with pytest.raises(DataError, match="must be positive and sum"):
        Schedule([8, 0], 8, 1)


@st.composite
def schedules(draw):
    """(rows of a period by source, batch_size, period)."""
    size, period = draw(st.integers(1, 24)), draw(st.integers(1, 30))
    sources = draw(st.integers(1, min(8, size * period)))
    cuts = draw(
        st.lists(
            st.integers(1, size * period - 1),
            min_size=sources - 1,
            max_size=sources - 1,
            unique=True,
        )
        if sources > 1
        else st.just([])
    )
    return np.diff([0, *sorted(cuts), size * period]).tolist(), size, period


@given(schedules())
@settings(max_examples=150, deadline=None)
def test_no_source_ever_strays_by_a_row(given):
    rows, size, period = given
    schedule = Schedule(rows, size, period)
    had = [0] * len(rows)
    for step in range(2 * period + 1):
        assert schedule.drawn(step) == had
        for source, count in enumerate(had):
            assert abs(count - Fraction(step * rows[source], period)) < 1
        for row in range(step * size, (step + 1) * size):
            source, before = schedule.place(row)
            assert before == had[source]  # every draw once, in order within the batch
            had[source] += 1


@given(rows=st.lists(st.integers(1, 300), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_rows_lie_evenly_in_the_batch(rows):
    """The order of exact fractions, although they are compared as doubles."""
    middles = [
        ((rank + Fraction(1, 2)) / count, source, rank)
        for source, count in enumerate(rows)
        for rank in range(count)
    ]
    schedule = Schedule(rows, sum(rows), 1)
    placed = [schedule.place(row) for row in range(sum(rows))]
    assert placed == [(source, rank) for _, source, rank in sorted(middles)]


def test_a_small_share_in_a_small_batch():
    """Octo's weights span 1 to 300: over 64 batches of 8 rows each source has its part."""
    shares = {"large": 0.9, "middle": 0.097, "small": 0.003}
    rows = rows_from_shares(shares, 8, 64)
    assert rows == {"large": 461, "middle": 50, "small": 1}
    schedule = Schedule(list(rows.values()), 8, 64)
    assert schedule.drawn(64_000) == [461_000, 50_000, 1_000]
    assert schedule.drawn(10**12) == [461 * 10**12 // 64, 50 * 10**12 // 64, 10**12 // 64]
