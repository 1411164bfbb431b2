"""The README's section "Your own dataset", run as it stands on a set that a stranger wrote."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

EPISODES = {"train": range(24), "val": range(24, 30)}


@pytest.fixture(scope="module")
def blocks(project) -> dict[str, str]:
    """The section's fenced blocks: "inspect", "config" and "train"."""
    text = (project / "README.md").read_text("utf-8")
    section = re.search(r"^## Your own dataset\n(.*?)^## ", text, re.S | re.M)[1]
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.S | re.M)
    assert [language for language, _ in fenced] == ["", "python", ""]
    return dict(zip(("inspect", "config", "train"), (code for _, code in fenced), strict=True))


@pytest.fixture(scope="module")
def clone(project, tmp_path_factory):
    """A clone with an installed environment, and the stranger's set in data/my_robot/1.0.0."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("Makefile", "setup.py", "requirements.lock"):
        shutil.copy(project / name, folder)
    (folder / "rt2").symlink_to(project / "rt2")
    shutil.copytree(project / "configs", folder / "configs")
    python = folder / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (folder / "venv" / ".installed").touch()
    write_set(folder / "data")
    return folder


def run(clone, commands: str) -> str:
    """What the commands of a block print."""
    environment = os.environ | {"VENV": "venv", "PYTHONPATH": ".", "XLA_FLAGS": ""}
    said = ""
    for line in commands.strip().splitlines():
        done = subprocess.run(
            ["sh", "-ec", line], cwd=clone, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        said += done.stdout
    return said


def test_inspect_proposes_the_config_that_stands_in_the_readme(clone, blocks):
    said = run(clone, blocks["inspect"])
    proposed = said[said.index("from configs import common") : said.index("return config")]
    assert proposed + "return config\n" == blocks["config"]
    page = (clone / "my_robot.html").read_text("utf-8")
    assert "Nothing odd was found" in page and "touch the green block" in page


def test_the_config_reads_the_set(clone, blocks):
    (clone / "configs" / "my_robot.py").write_text(blocks["config"])
    code = (
        "from configs import my_robot; from rt2.train import sources; "
        "config = my_robot.get_config(); "
        "print([(len(s.examples), s.examples[0].instruction) for which in ('sources', "
        "'eval_sources') for s in sources.open_sources(config, which).values()])"
    )
    said = run(clone, f'venv/bin/python -c "{code}"')
    assert said == "[(214, 'touch the red block'), (56, 'touch the green block')]\n"


@pytest.mark.faults
def test_it_trains(clone, blocks):
    (clone / "configs" / "my_robot.py").write_text(blocks["config"])
    said = run(clone, blocks["train"])
    assert re.search(r"my_robot, tokens right .* invalid actions 0 of 56", said)
    assert (clone / "runs" / "my_robot" / "report.html").is_file()


def write_set(data_dir) -> None:
    """A small RLDS set as TFDS writes it: two cameras, joints, language of the whole episode."""
    tfds = pytest.importorskip("tensorflow_datasets")
    tfds.disable_progress_bar()
    image = tfds.features.Image(shape=(96, 128, 3), encoding_format="jpeg")

    def vector(size):
        return tfds.features.Tensor(shape=(size,), dtype=np.float32)

    step = {
        "observation": {"front": image, "wrist": image, "joints": vector(6)},
        "action": vector(7),
        **dict.fromkeys(("is_first", "is_last", "is_terminal"), np.bool_),
    }
    text = tfds.features.Text()
    metadata = {"language_instruction": text, "operator": text}

    class MyRobot(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        url_infos = {}  # nothing is downloaded

        def _info(self):
            features = {"steps": tfds.features.Dataset(step), "episode_metadata": metadata}
            described = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=described)

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples(part) for name, part in EPISODES.items()}

        def _generate_examples(self, part):
            for number in part:
                yield number, episode(number)

    config = tfds.download.DownloadConfig(try_download_gcs=False)
    MyRobot(data_dir=data_dir).download_and_prepare(download_config=config)


def episode(number: int) -> dict:
    """A hand that goes to a block of one of three colours and closes on the way."""
    rng = np.random.default_rng(number)
    name, colour = list(COLOURS.items())[number % 3]
    target, hand = rng.uniform(0.2, 0.8, 2), rng.uniform(0.1, 0.9, 2)
    steps, length = [], 8 + number % 5
    for t in range(length):
        move = (target - hand) / (length - t)
        turn, rise, close = rng.normal(0, 0.02, 3), rng.normal(0, 0.01), float(t > length // 2)
        seen = {
            "front": picture(target, hand, colour),
            "wrist": picture(target - hand + 0.5, np.array([0.5, 0.5]), colour),
            "joints": np.concatenate([hand, rng.normal(size=4)]).astype(np.float32),
        }
        action = np.array([*move, rise, *turn, close], np.float32)
        flags = {"is_first": t == 0, "is_last": t == length - 1, "is_terminal": t == length - 1}
        steps.append({"observation": seen, "action": action, **flags})
        hand = hand + move
    metadata = {"language_instruction": f"touch the {name} block", "operator": "anna"}
    return {"steps": steps, "episode_metadata": metadata}


COLOURS = {"red": (220, 50, 40), "green": (40, 170, 80), "blue": (50, 90, 220)}


def picture(target, hand, colour) -> np.ndarray:
    """A block and, smaller and darker, a hand."""
    rows, columns = np.mgrid[0:96, 0:128]
    drawn = np.full((96, 128, 3), 225, np.uint8)
    for (x, y), size, paint in ((target, 10, colour), (hand, 5, (20, 20, 20))):
        drawn[(abs(columns - 128 * x) < size) & (abs(rows - 96 * y) < size)] = paint
    return drawn
