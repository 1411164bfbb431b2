"""Rows of dataset specs: from a config, and the errors of wrong ones."""

import dataclasses

import pytest

from rt2.actions import RT2
from rt2.data import specs
from rt2.data.errors import DataError


def row(**changes):
    own = dataclasses.asdict(specs.get("bridge_dataset"))
    own |= {"name": "mine", "action": "action", "action_spec": "rt2"}
    return own | changes


def test_a_row_from_a_config():
    spec = specs.from_config(row(bounds=["q01_q99"] * 6 + [[0, 1]]))
    assert spec.action == ("action",) and spec.action_spec is RT2
    assert spec == dataclasses.replace(specs.get("bridge_dataset"), name="mine")


def test_slots_of_ones_own():
    spec = specs.from_config(row(action_spec=[{"name": "dx", "bins": 11}, {"name": "dy"}]))
    assert spec.action_spec.bins == (11, 256)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"camra": "x"}, "unknown field 'camra': did you mean 'camera'"),
        ({"drop_last": "allways"}, "drop_last='allways': did you mean 'always'"),
        ({"action_spec": "rt1"}, "unknown action_spec 'rt1': did you mean 'rt2'"),
        ({"action_spec": [{"nam": "dx"}]}, "action_spec: .*nam"),
    ],
)
def test_wrong_rows(changes, words):
    with pytest.raises(DataError, match=words):
        specs.from_config(row(**changes))


def test_a_missing_field():
    own = row()
    del own["camera"]
    with pytest.raises(DataError, match="'mine': missing fields: camera"):
        specs.from_config(own)


def test_an_unknown_name():
    with pytest.raises(DataError, match="did you mean 'bridge_dataset'.*rt2.data.inspect"):
        specs.get("bridge_data")
