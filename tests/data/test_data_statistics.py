"""Quantiles, warnings, bounds and the OpenVLA layout."""

import json

import numpy as np
import pytest

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


def test_openvla_layout(tmp_path):
    stats = statistics.describe(np.linspace([0.0, 0.0], [1.0, 2.0], 11))
    path = tmp_path / "dataset_statistics.json"
    statistics.write_openvla(path, "mine", stats, trajectories=3, mask=[True, False])
    written = json.loads(path.read_text())["mine"]
    assert written["num_transitions"] == 11 and written["num_trajectories"] == 3
    assert written["action"]["mask"] == [True, False]
    assert written["action"]["q99"] == list(stats.q99) == written["action"]["p99"]
    assert set(written["action"]) >= {"mean", "std", "min", "max", "q01", "q99"}
