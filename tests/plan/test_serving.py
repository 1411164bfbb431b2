"""One action over several chips: weights stay where they are, figures add up."""

import jax
import pytest

from configs import debug
from rt2.plan import collectives, compiler, hlo, serving
from rt2.plan.chips import parse_topology
from rt2.plan.lines import lines
from rt2.plan.page import page
from rt2.plan.programs import ACTION_SLOTS, make_setup
from rt2.plan.roofline import latency_seconds
from rt2.train import sharding
from tests.plan.test_planning import answer
from tests.plan.test_roofline import mesh

CHIPS = 2  # the debug model has as many heads


@pytest.fixture(scope="module")
def setup():
    served = serving.serving_config(debug.get_config(), CHIPS)
    return make_setup(served, sharding.make_mesh(served.mesh.to_dict(), jax.devices()[:CHIPS]))


def test_no_weight_moves(setup):
    program = serving.serve_program(setup)
    compiled = compiler.compile_program(program, setup.mesh)
    found = collectives.find(hlo.parse(compiled.text), setup.mesh.shape)
    assert {one.axes for one in found} == {"tensor"}
    text = setup.model.config.text
    of_tokens = [one for one in found if one.times == ACTION_SLOTS * text.decoder_layers]
    assert len(of_tokens) == 3  # of a decoder layer: both attentions and the MLP are summed
    assert {one.payload for one in of_tokens} == {4 * text.width}


def test_weights_are_served_in_two_bytes_over_all_chips(setup, monkeypatch):
    monkeypatch.setattr(compiler, "make_mesh", lambda topology, sizes: setup.mesh)
    monkeypatch.setattr(compiler, "compile_program", lambda program, mesh: answer())
    plan = serving.serving_plan(debug.get_config(), parse_topology("h100:1x2"))
    assert plan["mesh"] == {"data": 1, "fsdp": 1, "tensor": CHIPS} and plan["batch_size"] == 1
    size = plan["parameters"]
    assert 2 * size / CHIPS < plan["bytes"]["parameters"] < 2 * size
    assert plan["fits"]
    action = plan["action"]
    decoder = {path for path in setup.model.shapes if path.startswith("text/decoder/")}
    assert len(decoder) > 10 and 0 < action["least"]
    assert action["most"] >= action["memory"] and action["least"] >= action["weights"]
    assert f"to {1 / action['least']:.1f} a second" in "\n".join(lines(plan))
    assert "Time of an action" in page(plan)


def test_no_table_moves_for_one_token_on_real_chips():
    """A single row is a slice to the compiler, for which it would gather the table."""
    topology = parse_topology(f"h100:1x{CHIPS}")
    if not compiler.has_compiler(topology):
        pytest.skip("the compiler for h100 is in the extra `plan`")
    config = debug.get_config()
    config.model.dtype = "bfloat16"
    plan = serving.serving_plan(config, topology)
    moved = plan["programs"]["serve"]["collectives"]
    gathered = sum(row["received_bytes"] for row in moved if row["kind"] == "all-gather")
    assert gathered < ACTION_SLOTS * 2 * config.tokenizer.vocab_size * 32 / 2


def test_the_decoder_is_read_for_every_token_and_of_tables_rows_alone():
    def leaf(size):
        one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        return jax.ShapeDtypeStruct((size,), serving.WEIGHTS, sharding=one)

    sizes = {"vision/a": 3, "text/encoder/b": 5, "text/decoder/c": 7, "text/head": 1000}
    weights = {path: leaf(size) for path, size in sizes.items()}
    assert serving.read_bytes(weights) == 2 * (3 + 5 + ACTION_SLOTS * 7)


@pytest.mark.parametrize(
    "name, group, kind, hops",
    [
        ("v4:4x4x4", range(64), "all-gather", 6),
        ("v4:4x4x4", range(64), "all-reduce", 12),
        ("v4:4x4x4", range(4), "all-reduce", 4),
        ("v4:2x2x2", range(8), "all-gather", 3),
        ("h100:2x8", range(8), "all-reduce", 10),
        ("h100:2x8", range(16), "all-reduce", 20),
    ],
)
def test_a_message_takes_its_way(name, group, kind, hops):
    topology = parse_topology(name)
    one = collectives.Collective("c", kind, 8, tuple(group), "tensor", 3, "main", "")
    place = mesh(topology) if topology.chip.torus else None
    assert latency_seconds([one], topology, place) == pytest.approx(3 * hops * 1e-6)
