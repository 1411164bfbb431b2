"""Rows of dataset specs: from a config, and the errors of wrong ones."""

import dataclasses

import ml_collections
import pytest

from rt2.actions import RT2
from rt2.data import specs
from rt2.data.errors import DataError
from rt2.data.specs import Keep, Part


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
        ({"action": [{"feature": "a", "then": ["invrt"]}]}, "action: .*did you mean 'invert'"),
        ({"action": [{"feature": "a", "then": [["clip", 1]]}]}, "action: clip takes 2 numbers"),
        (
            {"action": [{"feature": "a", "column": [0, 1]}]},
            "'column' of a Part: did you mean 'columns'",
        ),
        ({"action": [{"feature": "a", "columns": [3, 3]}]}, "columns=.3, 3. of 'a': 0 <= begin"),
        ({"action": [{}]}, "action: a part needs either a feature or a constant"),
        ({"action": [{"feature": "a", "then": ["difference"]}]}, 'set drop_last to "always"'),
        ({"action": [7]}, "action: expected a mapping of the fields of Part, got 7"),
        (
            {"instruction": {"txt": "push"}},
            "instruction: unknown field 'txt' of a FixedText: did you mean 'text'",
        ),
        ({"keep_episodes": [{"feature": "s"}]}, "keep_episodes: .*either matches or equals"),
        ({"keep_episodes": [{"feature": "s", "matches": "("}]}, "keep_episodes: matches='.'"),
        ({"keep_episodes": ["success"]}, "keep_episodes: expected a mapping of the fields of Keep"),
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


def plain(value):
    """A value of a row as a config file writes it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {name: value for name, value in fields.items() if value not in ("", (), None)}
    return [plain(v) for v in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", sorted(specs.SPECS))
def test_a_config_can_say_all_that_the_table_says(name):
    """Every shipped row, written in plain values into a config, is read as that row."""
    spec = specs.get(name)
    fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    named = {"action_spec": [dataclasses.asdict(slot) for slot in spec.action_spec.slots]}
    row = {key: plain(value) for key, value in fields.items()} | named
    config = ml_collections.ConfigDict({"rows": {name: row}})
    read = specs.from_config(config.rows[name].to_dict())
    assert read.state_parts == spec.state_parts
    assert dataclasses.replace(read, state=spec.state) == spec


def test_a_config_changes_one_value_of_a_row():
    then = [["clip", -1, 1], "invert"]
    parts = ["action/xyz", {"feature": "action/grip", "columns": [0, 1], "then": then}]
    config = ml_collections.ConfigDict({"row": row(action=parts)})
    config.row.keep_episodes = ({"feature": "ok", "equals": True},)
    config.row.action[1]["then"][0][1] = 0
    spec = specs.from_config(config.row.to_dict())
    assert spec.action == ("action/xyz", Part("action/grip", (0, 1), (("clip", 0, 1), "invert")))
    assert spec.keep_episodes == (Keep("ok", equals=True),)
