"""A named mixture in a config: which rows it becomes, and what share each source has."""

import json
import subprocess
from fractions import Fraction

import pytest

from configs import common
from rt2.data.errors import DataError
from rt2.data.mixture import Mixture, Progress
from rt2.train.metrics import progress_figures
from rt2.train.source_rows import shares, training_rows
from tests.train.conftest import metric_rows

MINE = {"robot": {"tabletop": 1.0, "bridge_dataset": 3.0}, "web": {"vqa": 1.0}}
MINE |= {"robot_share": 0.75, "by_size": False, "source": "this test"}


@pytest.fixture
def config(tmp_path):
    for folder in ("tabletop/1.0.0", "bridge_dataset/1.0.0", "vqa/1.0.0"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "dataset_info.json").write_text("{}")
    config = common.get_config()
    config.data_dir = str(tmp_path)
    config.mixture = "mine"
    config.mixtures.mine = MINE
    return config


def test_without_a_mixture_the_sources_are_those_with_a_share():
    config = common.get_config()
    for name, share in {"a": 2.0, "b": 0, "c": 1.0}.items():
        config.sources[name] = common.source("web", name, split="", spec="", share=share)
    assert list(training_rows(config)) == ["a", "c"]
    assert shares(config, {"a": 10, "c": 1}) == {"a": 2.0, "c": 1.0}


def test_a_mixture_becomes_rows(config, tmp_path):
    config.mixture_robot.split = config.mixture_web.split = "train[:95%]"
    rows = {name: row.to_dict() for name, row in training_rows(config).items()}
    wanted = common.source(
        "robot",
        str(tmp_path / "bridge_dataset" / "1.0.0"),
        split="train[:95%]",
        spec="bridge_dataset",
        share=0.0,
    )
    assert rows["bridge_dataset"] == wanted.to_dict()
    assert rows["vqa"]["kind"] == "web" and rows["vqa"]["spec"] == ""
    lengths = dict.fromkeys(rows, 100)
    assert shares(config, lengths) == {
        "tabletop": Fraction(3, 16),
        "bridge_dataset": Fraction(9, 16),
        "vqa": Fraction(1, 4),
    }


def test_own_sources_are_parts_of_one_and_the_mixture_has_the_rest(config):
    own = common.source("web", "elsewhere/*.tar", split="", spec="", share=0.2)
    config.sources.vqa = own
    config.sources.kuka = common.source("robot", "x", split="", spec="", share=0)
    rows = training_rows(config)
    assert rows.keys() == {"vqa", "tabletop", "bridge_dataset"}
    assert rows["vqa"].path == "elsewhere/*.tar"
    assert shares(config, dict.fromkeys(rows, 7)) == {
        "vqa": Fraction(1, 5),
        "tabletop": Fraction(1, 5),
        "bridge_dataset": Fraction(3, 5),
    }
    config.sources.vqa.share = 1.0
    with pytest.raises(DataError, match="nothing is left for the mixture 'mine'"):
        shares(config, dict.fromkeys(rows, 7))


def test_a_data_set_without_a_spec_is_named(config, tmp_path):
    config.mixtures.mine.robot.unheard_of = 1.0
    with pytest.raises(DataError, match="1 of 4 data sets .* not in .*: unheard_of"):
        training_rows(config)
    (tmp_path / "unheard_of").mkdir()
    (tmp_path / "unheard_of" / "dataset_info.json").write_text("{}")
    with pytest.raises(DataError, match="no dataset spec for unheard_of .*'unheard_of',"):
        training_rows(config)
    config.mixture_without = ("unheard_of",)
    assert "unheard_of" not in training_rows(config)


def test_progress_counts_examples_and_epochs():
    mixed = Mixture(
        {"a": (range(10), 3), "b": (range(4), 1)}, 2, 0, lambda n, _: {"n": n}, period=2
    )
    assert progress_figures(mixed, 4) == {
        "a/examples": 6,
        "a/epochs": 0.6,
        "b/examples": 2,
        "b/epochs": 0.5,
    }
    assert mixed.progress(8) == {"a": Progress(1, 2), "b": Progress(1, 0)}


@pytest.fixture
def mixture_config(tmp_path, data_dir, project):
    """configs/debug.py on a mixture of the small tabletop set (7 of 8 rows) and its web tars."""
    path = tmp_path / "small.py"
    folders = {"tabletop": data_dir / "tabletop", "web": data_dir / "web"}
    for name, folder in folders.items():
        (tmp_path / "sets").mkdir(exist_ok=True)
        (tmp_path / "sets" / name).symlink_to(folder)
    row = {"robot": {"tabletop": 1.0}, "web": {"web": 1.0}, "robot_share": 0.96875}
    row |= {"by_size": False, "source": "this test"}
    path.write_text(
        "from configs import debug\n\n\n"
        "def get_config():\n"
        "    config = debug.get_config()\n"
        "    del config.sources.tabletop, config.sources.web\n"
        f"    config.mixture, config.data_dir = 'small', {str(tmp_path / 'sets')!r}\n"
        f"    config.mixtures.small = {json.dumps(row)}\n".replace("false", "False")
        + "    return config\n"
    )
    return path


def test_training_on_a_mixture_whose_web_share_is_below_a_row(
    mixture_config, command, environment, project, tmp_path
):
    flags = command(tmp_path / "run", num_steps=4, log_interval=1, eval_rows=8, share_period=2)
    flags = [flag for flag in flags if "config.sources" not in flag]
    flags = [f"--config={mixture_config}" if "--config=" in flag else flag for flag in flags]
    flags.append("--config.batch_size=16")
    done = subprocess.run(flags, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "rows of 2 batches: {'tabletop': 31, 'web': 1}" in done.stderr
    logged = [row for row in metric_rows(tmp_path / "run") if "loss" in row]
    assert [row["web/examples"] for row in logged] in ([0, 1, 1, 2], [1, 1, 2, 2])
    assert [row["tabletop/examples"] + row["web/examples"] for row in logged] == [16, 32, 48, 64]
    with_web = ["web/loss" in row for row in logged]
    assert with_web.count(True) == 2  # a batch without the source has no figure of it
    refused = subprocess.run(
        [*flags, "--config.share_period=1"], cwd=project, env=environment, capture_output=True,
        text=True,
    )  # fmt: skip
    assert "share of web is below one row of a batch of 16" in refused.stderr
