import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt2.actions import LANGUAGE_TABLE, RT2, ActionCodec, ActionError, ActionSpec, Slot

CODEC = ActionCodec(RT2, low=(-1.0,) * 7, high=(1.0,) * 7)
bounds = st.tuples(st.floats(-10, 10), st.floats(0.01, 10)).map(lambda b: (b[0], b[0] + b[1]))


@given(bounds, st.integers(2, 300), st.floats(0, 1))
def test_a_value_moves_by_at_most_half_a_cell(bound, bins, part):
    low, high = bound
    codec = ActionCodec(ActionSpec((Slot("x", bins),)), (low,), (high,))
    value = np.array([low + part * (high - low)])
    back = codec.decode(codec.encode(value))
    assert abs(back - value)[0] <= codec.cell[0] / 2 * (1 + 1e-6) + 1e-6


@given(bounds, st.integers(2, 300))
def test_every_bin_survives_the_round_trip(bound, bins):
    codec = ActionCodec(ActionSpec((Slot("x", bins),)), (bound[0],), (bound[1],))
    every = np.arange(bins)[:, None]
    np.testing.assert_array_equal(codec.encode(codec.decode(every)), every)


def test_slots_in_the_order_of_the_paper():
    bins = CODEC.encode(np.array([-1, -0.5, 0, 0.5, 0.999, 1, 0.1]), terminate=False)
    assert bins.tolist() == [1, 0, 64, 128, 192, 255, 255, 140]
    assert CODEC.encode(np.zeros(7), terminate=True)[0] == 0


def test_terminate_is_read_from_its_slot_and_false_without_one():
    assert CODEC.terminated(np.array([[0] + [1] * 7, [1] * 8])).tolist() == [True, False]
    codec = ActionCodec(LANGUAGE_TABLE, (-0.1, -0.1), (0.1, 0.1))
    assert not codec.terminated(np.array([0, 0]))


def test_language_table_holds_zero_exactly():
    codec = ActionCodec(LANGUAGE_TABLE, (-0.1, -0.1), (0.1, 0.1))
    assert codec.encode(np.zeros(2)).tolist() == [10, 10]
    np.testing.assert_allclose(codec.decode(np.array([10, 10])), 0, atol=1e-9)


def test_out_of_range_counts_by_slot():
    values = np.array([[0, 2, 0, 0, 0, 0, 0], [0, -3, 0, 0, 0, 0, 1.5]])
    assert CODEC.out_of_range(values).tolist() == [0, 2, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_names_the_slot(bad):
    with pytest.raises(ActionError, match="droll"):
        CODEC.encode(np.array([0, 0, 0, bad, 0, 0, 0]))


def test_bins_outside_the_grammar_are_refused():
    for bins in ([2, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 256], [1, -1, 0, 0, 0, 0, 0, 0]):
        with pytest.raises(ActionError, match="outside"):
            CODEC.decode(np.array(bins))


def test_constant_dimension_is_refused():
    with pytest.raises(ActionError, match="'dz'"):
        ActionCodec(RT2, (-1.0,) * 2 + (0.0,) + (-1.0,) * 4, (1.0,) * 2 + (0.0,) + (1.0,) * 4)


def test_json_round_trip():
    assert ActionCodec.from_json(CODEC.to_json()) == CODEC
