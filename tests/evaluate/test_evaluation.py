import json
import subprocess
import sys
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest

from rt2.actions import LANGUAGE_TABLE, ActionCodec
from rt2.data import specs
from rt2.evaluate import __main__ as command
from rt2.evaluate.evaluation import Drawn, source_path, training_metrics

CODEC = ActionCodec(LANGUAGE_TABLE, (-0.04, -0.04), (0.04, 0.04))
SAME_IDS = SimpleNamespace(tokens=lambda bins: bins)
SPEC_FIELDS = [field.name for field in fields(specs.DatasetSpec) if field.name != "name"]


class HoldingPolicy:
    """Never moves, and takes every question for one about the strawberry."""

    def __init__(self, codecs):
        self.preprocess = SimpleNamespace(
            cameras=["image"],
            codecs=codecs,
            codec=codecs.get,
            vocabulary=SAME_IDS,
            image_size=32,
            history=1,
        )
        self.metadata = {"datasets": {name: {} for name in codecs}}

    def infer_batch(self, observations):
        hold = np.array([10, 10], np.int32)
        action = {"actions": CODEC.decode(hold)[None], "tokens": hold, "terminate": False}
        return [
            {"text": "strawberry"} if row.get("mode") == "vqa" else action for row in observations
        ]


@pytest.fixture(scope="module")
def data(tmp_path_factory, project):
    """A very small collection, with a row for each source as a checkpoint names them."""
    folder = tmp_path_factory.mktemp("collected")
    sizes = ["--episodes=2", "--val-episodes=2", "--scenes=2", "--val-scenes=4", "--workers=1"]
    collect = [sys.executable, "-m", "rt2.sim.collect", f"--out={folder}", "--image-size=32"]
    subprocess.run([*collect, *sizes], cwd=project, check=True, capture_output=True)
    return folder


def sources(folder):
    def row(kind, path, split, spec):
        row = {"kind": kind, "path": str(folder / path), "split": split, "spec": spec}
        return row | {"cameras": []}

    return {
        "tabletop": row("robot", "tabletop/1.0.0", "val", "tabletop"),
        "vqa": row("web", "web_vqa/1.0.0", "validation", ""),
    }


def run(monkeypatch, eval_sources, *arguments, trained_on="tabletop"):
    """`python -m rt2.evaluate` with a holding policy in place of a checkpoint."""
    policy = HoldingPolicy({trained_on: CODEC})
    own_spec = {key: getattr(specs.get("tabletop"), key) for key in SPEC_FIELDS}
    assets = {"eval": eval_sources, "config": {"dataset_specs": {"another": own_spec}}}
    monkeypatch.setattr(command, "Policy", SimpleNamespace(load=lambda path: policy))
    monkeypatch.setattr(command.checkpoint, "find", lambda path: path)
    monkeypatch.setattr(command.checkpoint, "read_json", lambda folder, item: assets)
    few = ["--episodes=2", "--questions=6", "--steps=5", "--videos=1", "--batch=4"]
    command.main([*few, *map(str, arguments)])


def test_the_command_measures_everything_the_checkpoint_names(data, tmp_path, monkeypatch, capsys):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    report, figures = tmp_path / "out" / "report.html", tmp_path / "out" / "figures.json"
    run(
        monkeypatch,
        sources(data),
        f"--checkpoint={tmp_path}",
        f"--report={report}",
        f"--json={figures}",
    )
    said = capsys.readouterr().out
    assert "reach, seen, checkpoint" in said and "0.0 % (0/2, 95 % CI 0.0-65.8)" in said
    written = json.loads(figures.read_text())
    names = {(row["policy"], row["split"]) for row in written["rollouts"]}
    policies = ("checkpoint", "random", "random object", "oracle")
    assert names == {(p, s) for p in policies for s in ("seen", "web_only", "held_out")}
    assert sum(row["exact"]["n"] for row in written["vqa"]) == 6
    (errors,) = written["actions"]
    assert errors["source"] == "tabletop" and errors["n"] == 5
    assert [said for said in written["omitted"] if "CIDEr" not in said] == []
    page = report.read_text()
    assert page.count("<figure") == 3 and "Training" in page  # a failure per split


def test_a_robot_without_a_simulator_is_judged_on_recorded_steps(data, tmp_path, monkeypatch):
    figures = tmp_path / "figures.json"
    row = {**sources(data)["tabletop"], "spec": "another"}
    flags = (f"--checkpoint={tmp_path}", f"--json={figures}")
    run(monkeypatch, {"held out": row}, *flags, trained_on="another")
    written = json.loads(figures.read_text())
    assert written["rollouts"] == [] and written["actions"][0]["source"] == "held out"
    assert written["omitted"] == ["closed loop: the policy was not trained on the tabletop"]


def test_sources_that_are_elsewhere_are_said_to_be_missing(data, tmp_path, monkeypatch, capsys):
    gone, flags = sources(tmp_path / "gone"), (f"--checkpoint={tmp_path}", "--splits=seen")
    run(monkeypatch, gone, *flags)
    assert capsys.readouterr().out.count("is not here; name its folder by --data=DIR") == 2
    run(monkeypatch, gone, *flags, f"--data={data}")
    assert "tabletop, tokens right" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--episodes=0", "--tasks=reech", "--splits=seen,x", "--batch=-1"])
def test_flags_that_make_no_sense_are_refused(flag, capsys):
    with pytest.raises(SystemExit):
        command.main(["--checkpoint=x", flag])
    assert flag.split("=")[0] in capsys.readouterr().err


def test_drawing_is_without_replacement_in_order_and_by_the_seed():
    rows = list(Drawn(range(100), 10, seed=0))
    assert rows == sorted(set(rows)) and len(rows) == 10
    assert rows == list(Drawn(range(100), 10, seed=0)) != list(Drawn(range(100), 10, seed=1))
    assert list(Drawn(range(3), 10, seed=0)) == [0, 1, 2]


def test_sources_move_as_name_and_version(tmp_path):
    assert source_path("data/tabletop/1.0.0", None).as_posix() == "data/tabletop/1.0.0"
    assert source_path("data/tabletop/1.0.0", tmp_path) == tmp_path / "tabletop" / "1.0.0"


def test_metrics_of_a_workdir_and_of_a_step_in_it(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    step = tmp_path / "checkpoints" / "2"
    assert training_metrics(tmp_path) == training_metrics(step) == [{"step": 1}, {"step": 2}]
    assert training_metrics(tmp_path / "a" / "b" / "c") == []


@pytest.mark.parametrize("line", ["not json", "[]", '{"loss": 1}'])
def test_a_broken_row_of_metrics_is_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(ValueError, match="metrics.jsonl, line 2"):
        training_metrics(tmp_path)
