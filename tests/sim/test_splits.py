import pytest

from rt2.sim import pictograms, splits


def test_the_splits_are_disjoint_and_cover_all():
    declared = splits.load()
    parts = [set(declared.seen_by_robot), set(declared.web_only), set(declared.held_out)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(pictograms.load())
    assert [len(parts[0]), len(parts[2])] == [40, splits.HELD_OUT_COUNT]
    assert set(declared.web) == parts[0] | parts[1]


def test_what_is_held_out_does_not_change_by_accident():
    assert splits.load().held_out[:3] == ("monkey", "mirror", "hindu temple")


def test_a_misspelt_declaration_is_refused(monkeypatch):
    monkeypatch.setattr(splits, "SEEN_BY_ROBOT", ("strawbery",))
    with pytest.raises(ValueError, match="SEEN_BY_ROBOT.*strawberry"):
        splits.load.__wrapped__()
    monkeypatch.setattr(splits, "SEEN_BY_ROBOT", ("hammer", "hammer"))
    with pytest.raises(ValueError, match="twice"):
        splits.load.__wrapped__()
