"""The step compiled for eight virtual devices: what the compiled text must not do.

The same rules as for 55B parameters; the figures of those are in experiments/plan/results.json.
"""

import json
import re

import jax
import pytest

from configs import debug
from rt2.models import layers
from rt2.plan import collectives, compiler, hlo
from rt2.plan.chips import parse_topology
from rt2.plan.planning import full_plan
from rt2.plan.programs import PROGRAMS, make_setup
from rt2.train import sharding

STACKED = re.compile("vision/blocks/|text/encoder/|text/decoder/")
DEPTH = 2  # layers of every stack of the debug model; no other loop is as long


@pytest.fixture(scope="module")
def step():
    """(setup, collectives) of the debug step over fsdp."""
    config = debug.get_config()
    config.model.remat, config.model.dtype = "full", "bfloat16"
    config.batch_size = 1024  # so that activations are larger than the model; nothing runs
    mesh = sharding.make_mesh({"data": 1, "fsdp": 8, "tensor": 1}, jax.devices())
    setup = make_setup(config, mesh)
    with pytest.MonkeyPatch.context() as patch:  # as on accelerators: a loop a layer
        patch.setattr(layers, "on_cpu", lambda: False)
        compiled = compiler.compile_program(PROGRAMS["train"](setup), mesh)
    assert not compiled.rematerialized
    return setup, collectives.find(hlo.parse(compiled.text), mesh.shape)


def test_the_layers_are_gathered_in_their_loops(step):
    """Gathers that leave the loops, of all layers at once, are no longer run once a layer."""
    setup, found = step
    stacked = sum(x.size for path, x in setup.model.shapes.items() if STACKED.search(path))
    config = setup.model.config
    depths = config.vision.depth, config.text.encoder_layers, config.text.decoder_layers
    assert set(depths) == {DEPTH}
    gathers = [one for one in found if one.kind == "all-gather" and one.times == DEPTH]
    assert sum(DEPTH * one.payload for one in gathers) >= 2 * 2 * stacked  # bfloat16, both passes


def test_every_device_computes_its_own_rows_alone(step):
    setup, found = step
    vision = setup.model.config.vision
    activations = 2 * setup.config.batch_size * vision.tokens * vision.width
    summed = [one for one in found if one.times > 1 and one.kind == "all-reduce"]
    assert not [one for one in summed if one.payload >= activations]


@pytest.mark.parametrize("name", ["h100:1x8", "v5e:2x4"])
def test_the_debug_step_is_planned_for_real_chips(name):
    topology = parse_topology(name)
    if not compiler.has_compiler(topology):
        pytest.skip(f"the compiler for {topology.chip.name} is in the extra `plan`")
    config = debug.get_config()
    config.mesh.fsdp, config.mesh.data = 8, 1
    found = full_plan(config, topology, ("train",))
    assert found["fits"] and found["programs"]["train"]["collectives"]


def test_the_recorded_plans_of_55b_hold_what_they_claim(project):
    rows = json.loads((project / "experiments/plan/results.json").read_text())
    plans = {row["name"]: row["plan"] for row in rows}
    for name, plan in plans.items():
        if plan["fits"] and "roofline" in plan:
            assert plan["regathered_share"] < 0.1, name
            assert plan["programs"]["train"]["rss_bytes"] < 12 * 2**30, name
    entropy = plans["entropy_h100_64"]["programs"]["entropy"]
    assert entropy["needed_bytes"] - entropy["argument_bytes"] < 1e9
    fits = [row for row in rows if row["name"].startswith("fit_")]
    assert len(fits) == 3 and len({row["commit"] for row in fits}) == 1
    assert all(row["plan"]["fits"] and row["ours"] >= 0.5 for row in fits)


@pytest.mark.parametrize("first, others", [("weak_h100_64", "weak_h100"), ("fit_v4_64", "weak_v4")])
def test_the_recorded_steps_scale_with_the_chips(project, first, others):
    rows = json.loads((project / "experiments/plan/results.json").read_text())
    plans = {row["name"]: row["plan"] for row in rows}
    few = plans[first]
    for chips in (128, 256, 512):
        many = plans[f"{others}_{chips}"]
        assert many["chips"] == chips and many["fits"]
        computed, sent = (
            [plan["programs"]["train"][what] for plan in (few, many)]
            for what in ("flops", "received_bytes")
        )
        assert computed[1] / chips == pytest.approx(computed[0] / few["chips"], rel=0.02)
        assert sent[1] < 1.1 * sent[0]
