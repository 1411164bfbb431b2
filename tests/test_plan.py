import pytest

from configs import tabletop
from rt2.errors import UserError
from rt2.plan import make_plan, parse_topology


def plan(topology, frozen=(), **mesh):
    config = tabletop.get_config()
    config.frozen = frozen
    config.model.variant = "small"
    config.optimizer.name = "adamw"
    config.mesh.update(mesh)
    return make_plan(config, topology)


def test_topologies():
    assert parse_topology("v4:4x4x4") == ("v4", 64)
    assert parse_topology("h100:8") == ("h100", 8)
    for bad in ("v4", "v4:", "v4:4x", "v9:4x4", "v4:0x2"):
        with pytest.raises(UserError):
            parse_topology(bad)


def test_one_chip_holds_everything_and_adam_two_moments():
    one = plan("v5e:1x1")
    assert one.parameter_bytes == 4 * one.parameters == one.gradient_bytes
    assert 0 <= one.optimizer_bytes - 2 * one.parameter_bytes < 1000


def test_frozen_parameters_have_no_gradients_and_no_moments():
    frozen = plan("v5e:1x1", frozen=("vision/", "text/embedding"))
    assert frozen.parameter_bytes == 4 * frozen.parameters
    assert 0 < frozen.gradient_bytes < 0.8 * frozen.parameter_bytes
    assert 0 <= frozen.optimizer_bytes - 2 * frozen.gradient_bytes < 1000


def test_fsdp_divides_the_bytes():
    whole, split = plan("v4:2x2x2"), plan("v4:2x2x2", data=1, fsdp=4, tensor=2)
    assert split.total_bytes < 0.15 * whole.total_bytes
    assert split.mesh == {"data": 1, "fsdp": 4, "tensor": 2}


def test_what_does_not_fit_says_which_knob_helps():
    small = plan("v5e:1x1")
    text = "\n".join(small.lines())
    assert "fits before activations" in text
    crowded = type(small)(**{**vars(small), "hbm_bytes": 1})
    assert "--config.mesh.fsdp" in "\n".join(crowded.lines())


def test_a_mesh_that_does_not_fit_the_slice_is_refused():
    with pytest.raises(UserError, match="8 devices"):
        plan("v4:2x2x2", data=3)
