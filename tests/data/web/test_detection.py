"""Places as integers: they can be read back, and every kind names the same things."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt2.data.errors import DataError
from rt2.data.web import detection
from rt2.data.web.detection import Box
from rt2.data.web.options import Options
from rt2.evaluate.vqa import read_place

fractions = st.floats(0, 1)
boxes = st.builds(
    lambda name, x, y: Box(name, min(x), min(y), max(x), max(y)),
    st.sampled_from(["dog", "red fox", "cup"]),
    st.tuples(fractions, fractions),
    st.tuples(fractions, fractions),
)


@given(fractions, st.integers(2, 1000))
def test_a_cell_holds_its_fraction(fraction, grid):
    cell = int(detection.cells([fraction], grid))
    assert 0 <= cell < grid
    assert cell / grid <= fraction + 1e-9 and fraction <= (cell + 1) / grid + 1e-9


@given(st.lists(boxes, max_size=8), st.integers(2, 1000))
def test_rows_of_any_boxes(found, grid):
    dropped = Counter()
    options = Options(grid=grid)
    by_kind = {kind: [] for kind in options.detection}
    for row in detection.rows(found, options, dropped):
        by_kind[row.kind].append(row)
    names = Counter(box.name for box in found)
    assert not dropped
    assert len(by_kind["list"]) == bool(found)
    assert len(by_kind["where"]) == len(by_kind["what"]) == len(by_kind["detect"]) == len(names)
    for row in by_kind["where"]:
        places = [read_place(answer) for answer in row.answers]
        assert all(0 <= x < grid and 0 <= y < grid for x, y in places)
        assert places == sorted(set(places), key=places.index)
    for row in by_kind["list"]:
        for name, count in names.items():
            assert row.answers[0].count(name) == count
    for row in by_kind["detect"]:
        name = row.question.removeprefix("Answer in en : detect every ")
        edges = row.answers[0].replace(name, "").split()
        assert len(edges) == 4 * names[name]
        for i in range(0, len(edges), 4):
            x0, y0, x1, y1 = map(int, edges[i : i + 4])
            assert x0 <= x1 and y0 <= y1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"detection": ("wher",)}, "'wher': did you mean 'where'"),
        ({"grid": 1001}, "grid=1001"),
        ({"max_objects": 0}, "max_objects=0"),
        ({"text_only": "keeep"}, "did you mean 'keep'"),
    ],
)
def test_options_that_do_not_exist(options, words):
    with pytest.raises(DataError, match=words):
        Options(**options)
