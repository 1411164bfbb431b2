"""The plan without a compiler: bytes from abstract shapes, topologies, advice."""

import json
import subprocess
import sys

import pytest

from configs import tabletop
from rt2.errors import UserError
from rt2.plan.chips import PlanError, parse_topology
from rt2.plan.lines import lines, verdict
from rt2.plan.page import page
from rt2.plan.planning import quick_plan


def plan(topology, frozen=(), **mesh):
    config = tabletop.get_config()
    config.frozen = frozen
    config.model.variant = "small"
    config.optimizer.name = "adamw"
    config.mesh.update(mesh)
    return quick_plan(config, parse_topology(topology))


def test_topologies():
    assert parse_topology("v4:4x4x4").chips == 64
    assert parse_topology("h100:32x8").chips == 256
    assert parse_topology("v4:4x4x2").wraps == (True, True, False)
    assert parse_topology("v5e:16x8").wraps == (True, False)
    assert parse_topology("v6e:1x1").chips == 1
    assert parse_topology("v5p:28x16x20").chips == 8960


@pytest.mark.parametrize(
    "name, said",
    [
        ("q9:4x4", "known: v4"),
        ("h10:4x8", "Did you mean 'h100:4x8'"),
        ("a100:4x8", "Did you mean 'h100:4x8'"),
        ("V5P:2x2x2", "Did you mean 'v5p:2x2x2'"),
        ("v4", "nearest is v4:4x4x4"),
        ("v4:4x4", "has 3 sides.*nearest is v4:2x2x4"),
        ("v4:0x2x2", "has 3 sides"),
        ("v4:4x4x\u0664", "has 3 sides"),
        ("v5e:4x4x4", "has 2 sides.*nearest is v5e:8x8"),
        ("v5p:1x1x1", "hosts of 2x2 chips.*nearest is v5p:2x2x1"),
        ("v4:3x5x7", "hosts of 2x2 chips.*nearest is v4:4x4x8"),
        ("v5e:16x32", "pod is 16x16.*nearest is v5e:16x16"),
        ("h100:8", "nearest is h100:1x8"),
        ("h100:8x16", "at most 8.*nearest is h100:16x8"),
    ],
)
def test_a_wrong_topology_is_refused_with_the_right_form(name, said):
    with pytest.raises(PlanError, match=said):
        parse_topology(name)


def test_one_chip_holds_everything_and_adam_two_moments():
    held, parameters = (plan("v5e:1x1")[key] for key in ("bytes", "parameters"))
    assert held["parameters"] == 4 * parameters == held["gradients"]
    assert 0 <= held["optimizer"] - 2 * held["parameters"] < 1000
    assert held["temporaries"] is None


def test_frozen_parameters_have_no_gradients_and_no_moments():
    held = plan("v5e:1x1", frozen=("vision/", "text/embedding"))["bytes"]
    assert 0 < held["gradients"] < 0.8 * held["parameters"]
    assert 0 <= held["optimizer"] - 2 * held["gradients"] < 1000


def test_fsdp_divides_the_bytes():
    whole, split = plan("v4:2x2x2"), plan("v4:2x2x2", data=1, fsdp=4, tensor=2)
    assert split["bytes"]["total"] < 0.15 * whole["bytes"]["total"]
    assert split["mesh"] == {"data": 1, "fsdp": 4, "tensor": 2}


def test_a_mesh_that_does_not_fit_the_slice_is_refused():
    with pytest.raises(UserError, match="8 devices"):
        plan("v4:2x2x2", data=3)


def test_what_does_not_fit_says_which_knob_helps(monkeypatch):
    assert "fits before activations" in "\n".join(lines(plan("v5e:1x1")))
    monkeypatch.setattr("rt2.plan.memory.USABLE", {"tpu": 1e-3})
    crowded = plan("v5e:2x2", data=4)
    assert not crowded["fits"]
    for knob in ("--config.mesh.fsdp=4", "optimizer.name=adafactor", "a topology of"):
        assert knob in verdict(crowded)


def test_the_page_shows_every_kind_of_bytes_and_escapes():
    found = plan("v4:2x2x2") | {"variant": "<b>"}
    text = page(found)
    assert "&lt;b&gt;" in text and "<b>" not in text
    for kind in ("parameters", "optimizer", "gradients"):
        assert f"{found['bytes'][kind] / 2**30:.2f} GiB" in text


def test_the_command_counts_without_a_compiler_and_says_so(project, tmp_path):
    command = [sys.executable, "-m", "rt2.plan", "--config=configs/debug.py", "--quick"]
    command += ["--topology=v4:2x2x2", f"--json={tmp_path}/plan.json"]
    said = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    assert "fits before activations" in said.stdout
    assert json.loads((tmp_path / "plan.json").read_text())["chips"] == 8
    wrong = subprocess.run([*command, "--topology=v9:4"], cwd=project, capture_output=True)
    assert wrong.returncode == 1 and b"Traceback" not in wrong.stderr
