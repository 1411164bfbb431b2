"""What a plan makes of a compiler's answer, without one."""

import os

import jax
import pytest

from configs import debug
from rt2.errors import UserError
from rt2.plan import compiler, planning
from rt2.plan.chips import PlanError, parse_topology
from rt2.plan.lines import lines, verdict
from rt2.plan.page import page

EMPTY = "HloModule nothing\n\nENTRY %main () -> f32[] {\n  ROOT %x = f32[] constant(0)\n}\n"
POD = parse_topology("v4:2x2x2")


def answer(**changes):
    sizes = dict(argument_bytes=10, output_bytes=6, alias_bytes=6, temporary_bytes=2**30)
    took = dict(peak_bytes=2**29, seconds=1.0, cpu_seconds=1.0, rss_bytes=2**30)
    return compiler.Compiled(EMPTY, **sizes | took | {"rematerialized": ()} | changes)


@pytest.fixture
def compiled(monkeypatch):
    """A plan of the debug config on a pretended slice, given the compiler's answer."""
    mesh = jax.sharding.AbstractMesh((1, 8, 1), ("data", "fsdp", "tensor"))
    monkeypatch.setattr(compiler, "make_mesh", lambda topology, sizes: mesh)
    monkeypatch.setattr(planning.jax, "set_mesh", jax.sharding.use_abstract_mesh)

    def make(said):
        def compile_program(program, mesh):
            if isinstance(said, Exception):
                raise said
            return said

        monkeypatch.setattr(compiler, "compile_program", compile_program)
        config = debug.get_config()
        config.mesh.data, config.mesh.fsdp = 1, 8
        return planning.full_plan(config, POD, ("train",))

    return make


def test_a_chip_needs_what_is_allocated_where_that_is_more_than_the_stated_peak(compiled):
    plan = compiled(answer())
    assert plan["fits"] and plan["bytes"]["total"] == 10 + 2**30
    assert "model FLOPs utilization" in "\n".join(lines(plan)) and "Programs" in page(plan)


def test_an_overflow_is_told_with_the_knobs_that_help(compiled):
    message = "RESOURCE_EXHAUSTED: Ran out of memory. Used 90.5G of 30.75G hbm."
    plan = compiled(jax.errors.JaxRuntimeError(message))
    assert not plan["fits"] and plan["bytes"]["total"] == int(90.5 * 2**30)
    assert "model.remat" in verdict(plan) and "a topology of 32 chips" in verdict(plan)
    assert "refused by the compiler" in "\n".join(lines(plan)) and "does NOT fit" in page(plan)


def test_both_forms_of_an_overflow_say_how_much_it_is(compiled):
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (31.31G) exceeds available HBM (30.75G)."
    )
    assert compiler.overflow_bytes(message) == int(31.31 * 2**30)
    assert not compiled(jax.errors.JaxRuntimeError(message))["fits"]
    assert not compiled(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: in other words"))["fits"]


def test_another_failure_of_the_compiler_is_not_hidden(compiled):
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        compiled(jax.errors.JaxRuntimeError("INTERNAL: no"))


def test_an_array_that_is_copied_whole_to_be_laid_out_is_a_defect(compiled):
    with pytest.raises(UserError, match="copies an array whole"):
        compiled(answer(rematerialized=("Involuntary full rematerialization of x",)))


def test_what_the_compiler_writes_to_standard_error_is_read(capfd):
    with compiler._stderr() as said:
        os.write(2, b"W spmd: [SPMD] Involuntary full rematerialization. The compiler\n")
    assert "Involuntary" in said[0] and "Involuntary" in capfd.readouterr().err


def test_without_a_compiler_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(compiler, "has_compiler", lambda topology: False)
    with pytest.raises(UserError, match=r"\[plan\]"):
        compiler.make_mesh(POD, {"data": 1, "fsdp": 8, "tensor": 1})


@pytest.mark.parametrize("error", [jax.errors.JaxRuntimeError, NotImplementedError, ValueError])
def test_what_the_compiler_refuses_names_a_slice_and_the_way_around(monkeypatch, error):
    def refuse(**described):
        raise error("INVALID_ARGUMENT: no such layout")

    monkeypatch.setattr(compiler, "has_compiler", lambda topology: True)
    monkeypatch.setattr(compiler.topologies, "get_topology_desc", refuse)
    with pytest.raises(PlanError, match="no such layout.*v4:2x2x2.*--quick"):
        compiler.make_mesh(parse_topology("v4:4x2x1"), {"data": 1, "fsdp": 8, "tensor": 1})


def test_an_unknown_program_is_refused_with_the_nearest():
    with pytest.raises(PlanError, match="Did you mean 'train'"):
        planning.full_plan(debug.get_config(), POD, ("trian",))
