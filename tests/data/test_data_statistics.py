"""Quantiles, warnings and bounds."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt2.data import statistics
from rt2.data.errors import DataError


def test_describe_literal_values():
    found = statistics.describe(np.array([[0.0], [1.0], [2.0], [3.0], [4.0]]))
    assert (found.count, found.mean, found.min, found.max) == (5, (2.0,), (0.0,), (4.0,))
    assert found.std == pytest.approx((2**0.5,))
    assert found.q01 == pytest.approx((0.04,)) and found.q99 == pytest.approx((3.96,))


def test_describe_refuses_nothing_and_nan():
    with pytest.raises(DataError, match="no values"):
        statistics.describe(np.zeros((0, 2)))
    with pytest.raises(DataError, match="row 1"):
        statistics.describe(np.array([[0.0], [np.nan]]))


def test_warnings_name_the_degenerate_dimensions():
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(size=1000), np.full(1000, 0.5), np.zeros(1000), rng.normal(
        size=1000)], axis=1)  # fmt: skip
    values[0, 2] = 1.0
    values[1, 3] = 1000.0
    found = dict(statistics.warnings(statistics.describe(values), ["a", "b", "c", "d"]))
    assert found.keys() == {"b", "c", "d"}
    assert "constant at 0.5" in found["b"] and "q01 = q99" in found["c"]
    assert "outliers" in found["d"]


def test_bounds_rules():
    stats = statistics.describe(np.linspace([-2.0, 0.0], [1.0, 4.0], 101))
    assert statistics.bounds(stats, "min_max") == ((-2.0, 0.0), (1.0, 4.0))
    assert statistics.bounds(stats, "symmetric") == ((-2.0, -4.0), (2.0, 4.0))
    low, high = statistics.bounds(stats, ("q01_q99", (0.0, 1.0)))
    assert low == pytest.approx((-1.97, 0.0)) and high == pytest.approx((0.97, 1.0))
    with pytest.raises(DataError, match="did you mean 'min_max'"):
        statistics.bounds(stats, "minmax")
    with pytest.raises(DataError, match="1 rules of bounds for 2"):
        statistics.bounds(stats, ("min_max",))


@given(
    st.integers(1, 400),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 2**31),
)
@settings(max_examples=200, deadline=None)
def test_quantiles_are_those_of_numpy_to_the_last_bit(count, dtype, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, 2)).astype(dtype)
    values[:, 1] = np.round(values[:, 1])  # ties
    found, exact = statistics.describe(values), values.astype(np.float64)
    np.testing.assert_array_equal(found.q01, np.quantile(exact, 0.01, axis=0))
    np.testing.assert_array_equal(found.q99, np.quantile(exact, 0.99, axis=0))
    np.testing.assert_array_equal(found.min, exact.min(axis=0))
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.std, exact.std(axis=0), rtol=1e-12, atol=1e-15)


def test_one_column_is_held_at_a_time(tmp_path):
    count = 1_000_000
    values = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, (count, 7))
    values[:] = np.arange(count, dtype=np.float32)[:, None]
    tracemalloc.start()
    found = statistics.describe(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.q99 == pytest.approx((0.99 * (count - 1),) * 7)
    assert peak < 1.5 * 4 * count


def test_figures_that_a_file_lacks_are_asked_for_by_name():
    stats = statistics.Statistics(None, (0.0,), (1.0,), None, None, (-2.0,), (3.0,))
    assert statistics.bounds(stats, "q01_q99") == ((-2.0,), (3.0,))
    for rule in ("min_max", "symmetric"):
        with pytest.raises(DataError, match=f"bounds '{rule}': the statistics have no min"):
            statistics.bounds(stats, rule)
    with pytest.raises(DataError, match="did you mean 'q01_q99'"):
        statistics.bounds(stats, "q01q99")
