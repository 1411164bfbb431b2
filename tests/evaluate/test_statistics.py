import math

import pytest

from rt2.evaluate.statistics import Mean, Rate

# Reference values: scipy.stats.binomtest(hits, n).proportion_ci(method="wilson").
WILSON = [
    (0, 10, 0.0, 0.277533),
    (10, 10, 0.722467, 1.0),
    (1, 10, 0.017876, 0.404150),
    (5, 10, 0.236593, 0.763407),
    (169, 200, 0.788393, 0.888604),
    (1, 1, 0.206549, 1.0),
]


@pytest.mark.parametrize("hits, n, low, high", WILSON)
def test_wilson_intervals(hits, n, low, high):
    assert Rate(hits, n).interval == pytest.approx((low, high), abs=1e-6)


def test_a_rate_prints_with_its_count_and_interval():
    assert str(Rate(169, 200)) == "84.5 % (169/200, 95 % CI 78.8-88.9)"


@pytest.mark.parametrize("hits, n", [(0, 0), (-1, 3), (4, 3)])
def test_impossible_rates_are_refused(hits, n):
    with pytest.raises(ValueError, match="0 <= hits <= n"):
        Rate(hits, n)


def test_mean_and_its_interval():
    mean = Mean.of([1.0, 2.0, 3.0, 4.0])
    assert mean.value == 2.5
    # 1.959964 * sample deviation 1.290994 / sqrt(4)
    assert mean.interval == pytest.approx((1.234848, 3.765152), abs=1e-6)
    assert Mean.of([2.0]).to_json() == {"mean": 2.0, "n": 1, "interval": None}


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_a_mean_of_nothing_or_of_nan_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        Mean.of(values)
