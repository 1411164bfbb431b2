"""Named mixtures: the published weights, what they come to, and data sets that are missing."""

from fractions import Fraction

import pytest

from rt2.data import mixtures
from rt2.data.errors import DataError


def test_the_shipped_weights_are_the_published_ones():
    soup, rtx = mixtures.get("oxe_magic_soup").robot, mixtures.get("rtx").robot
    assert len(soup) == 25 and len(rtx) == 11
    assert sum(soup.values()) == pytest.approx(30.77497585142)
    assert sum(rtx.values()) == pytest.approx(19.37497585142)
    openvla = mixtures.get("oxe_magic_soup_openvla").robot
    assert soup.keys() - openvla.keys() == {
        "bridge_dataset",
        "nyu_door_opening_surprising_effectiveness",
        "bc_z",
    }
    assert openvla.keys() - soup.keys() == {"bridge_orig"}
    assert len(mixtures.get("rtx_openvla").robot) == 10


@pytest.mark.parametrize("mixture", mixtures.MIXTURES.values(), ids=lambda m: m.name)
def test_shares_sum_to_one_and_rows_pass_their_own_check(mixture):
    lengths = {name: 10 + i for i, name in enumerate(mixture.kinds)}
    shares = mixture.shares(lengths)
    assert sum(shares.values()) == 1 and shares.keys() == lengths.keys()
    row = {"robot": mixture.robot, "web": mixture.web, "robot_share": mixture.robot_share}
    row |= {"by_size": mixture.by_size, "source": mixture.source}
    assert mixtures.from_config(mixture.name, row) == mixture


def test_octo_weights_count_for_each_transition():
    """Octo, make_interleaved_dataset: weights * num_transitions, then divided by their sum."""
    soup = mixtures.get("oxe_magic_soup")
    lengths = {"fractal20220817_data": 3_786_400, "viola": 76_324, "language_table": 7_045_476}
    products = {
        "fractal20220817_data": 0.54087122203 * 3_786_400,
        "viola": 2.0 * 76_324,
        "language_table": 0.1 * 7_045_476,
    }
    shares = soup.shares(lengths)
    for name, product in products.items():
        assert float(shares[name]) == pytest.approx(product / sum(products.values()), abs=1e-15)


def test_plain_weights_count_for_each_data_set():
    palme = mixtures.get("rt2_palme")
    lengths = {name: 10**i for i, name in enumerate(palme.kinds)}
    shares = palme.shares(lengths)
    assert shares["fractal20220817_data"] == Fraction(66, 100)
    assert shares["webli"] == Fraction(34, 100) * Fraction(100, 174)
    assert shares["coco"] == Fraction(34, 100) * Fraction(1, 174)


def test_the_robot_share_stays_when_web_data_are_left_out():
    palix = mixtures.get("rt2_palix")
    shares = palix.shares({"fractal20220817_data": 9, "webli": 5, "vqg": 7})
    assert shares == {
        "fractal20220817_data": Fraction(1, 2),
        "webli": Fraction(10, 22),
        "vqg": Fraction(1, 22),
    }
    assert palix.shares({"fractal20220817_data": 9}) == {"fractal20220817_data": 1}


@pytest.fixture
def mixture():
    row = {"robot": {"a": 1.0, "b": 2.0}, "web": {"c": 1.0}, "robot_share": 0.5}
    return mixtures.from_config("mine", {**row, "by_size": False, "source": "here"})


def lay(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def test_the_newest_version_and_tars_are_found(mixture, tmp_path):
    lay(tmp_path, "a/0.9.0/dataset_info.json", "a/0.10.0/dataset_info.json", "a/notes.txt")
    lay(tmp_path, "b/dataset_info.json", "c/web-0.tar")
    assert mixture.find(tmp_path, ()) == {
        "a": f"{tmp_path}/a/0.10.0",
        "b": f"{tmp_path}/b",
        "c": f"{tmp_path}/c/*.tar",
    }
    assert mixture.find(tmp_path, ("a",), elsewhere=("c", "x")).keys() == {"b"}


def test_all_missing_data_sets_are_named_with_the_way_out(mixture, tmp_path):
    lay(tmp_path, "a/1.0.0/dataset_info.json", "b/1.0.0/features.json")
    with pytest.raises(DataError) as error:
        mixture.find(tmp_path, ())
    assert "2 of 3 data sets of the mixture 'mine' are not in" in str(error.value)
    assert "b, c. Put each into" in str(error.value)
    remedy = str(error.value).split("--config.mixture_without=")[1]
    assert remedy == "\"('b', 'c')\""
    assert mixture.find(tmp_path, ("b", "c")).keys() == {"a"}


@pytest.mark.parametrize(
    ("data_dir", "without", "message"),
    [
        ("x", ("aa",), "has no data set 'aa': did you mean 'a'"),
        ("x", ("a", "b", "c"), "no data set of the mixture 'mine' is left"),
        ("", (), "needs the folder or URL"),
    ],
)
def test_what_find_refuses(mixture, data_dir, without, message):
    with pytest.raises(DataError, match=message):
        mixture.find(data_dir, without)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": {}}, "unknown field 'weights'"),
        ({"robot": {"a": 0.0}}, "the weight of a is 0"),
        ({"web": {"a": 1.0}}, "a is both robot and web"),
        ({"robot_share": 1.5}, "robot_share=1.5"),
    ],
)
def test_what_a_row_may_not_say(change, message):
    row = {"robot": {"a": 1.0}, "web": {}, "robot_share": None, "by_size": True, "source": ""}
    with pytest.raises(DataError, match=message):
        mixtures.from_config("mine", row | change)
    with pytest.raises(DataError, match="missing fields: robot_share, by_size, source"):
        mixtures.from_config("mine", {"robot": {}, "web": {}})
    with pytest.raises(DataError, match="did you mean 'oxe_magic_soup'"):
        mixtures.get("oxe_magic_soop")
