"""What a part makes of stored values."""

import numpy as np

from rt2.data.parts import Part, parse, parse_all

FIRST = np.array([0, 2])


def test_stored_types_are_neither_wrapped_nor_rounded():
    def applied(values, *then):
        return Part("x", then=then).apply(np.array(values), FIRST)

    np.testing.assert_array_equal(applied(np.array([200, 1], np.uint8), "negate"), [[-200], [-1]])
    np.testing.assert_array_equal(applied([True, False], "invert"), [[0], [1]])
    large = 2**40 + 1
    np.testing.assert_array_equal(applied([large, 0]), [[large], [0]])
    np.testing.assert_array_equal(applied([0.1 + 1e-12, 0], ("scale", 1)), [[0.1 + 1e-12], [0]])
    assert applied(np.array([1, 2], np.float32), "invert").dtype == np.float32


def test_a_threshold_falls_where_float32_says():
    values = np.array([0.1, 0.2], np.float32)  # 0.1 in float32 is above 0.1 in float64
    gripper = Part("x", then=(("absolute_gripper", 0.1),))
    np.testing.assert_array_equal(gripper.apply(values, FIRST), [[1], [0]])


def test_columns_of_a_matrix_and_operations_in_order():
    values = np.arange(12.0).reshape(2, 3, 2)
    part = Part("x", columns=(2, 4), then=("negate", ("clip", -8, 0), ("scale", 10)))
    np.testing.assert_array_equal(part.apply(values, FIRST), [[-20, -30], [-80, -80]])
    assert not part.episodic and Part("x", then=("difference",)).episodic


def test_plain_values():
    assert parse_all("action") == ("action",) and parse_all({"feature": "a"}) == (Part("a"),)
    assert parse({"constant": [0, 1]}) == Part(constant=(0, 1))
    then = [["clip", 0, 1], "invert"]
    found = parse({"feature": "a", "columns": [0, 1], "then": then})
    assert found == Part("a", (0, 1), (("clip", 0, 1), "invert"))
