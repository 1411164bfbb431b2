"""Small compiled texts, cut from real ones of GPU and TPU: loops, groups, bytes."""

import pathlib

import pytest

from rt2.plan import collectives, hlo, traffic

TEXT = (pathlib.Path(__file__).parent / "step.hlo").read_text("utf-8")
MESH = {"data": 1, "fsdp": 8, "tensor": 1}
ALL = "replica_groups={{0,1,2,3,4,5,6,7}}"


def text(groups=ALL, **changes):
    found = TEXT.replace("GROUPS", groups)
    for old, new in changes.items():
        found = found.replace(old, new)
    return hlo.parse(found)


def test_the_loop_runs_as_often_as_its_condition_says():
    times = {line.name: times for line, _, times in text().walk()}
    assert times["gather-start"] == 50 and times["dynamic-slice.1"] == 50
    assert times["loop"] == times["both"] == 1


def test_the_compiler_s_own_count_goes_first():
    known = TEXT.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"49"}}')
    found = hlo.parse(known.replace("GROUPS", ALL))
    assert next(n for line, _, n in found.walk() if line.name == "gather-start") == 49


def test_bytes_are_those_of_the_operands_a_tuple_s_together():
    found = {one.kind: one for one in collectives.find(text(), MESH)}
    gather, scatter = found["all-gather"], found["reduce-scatter"]
    assert gather.payload == 64 * 128 * 2 and gather.times == 50 and gather.axes == "fsdp"
    assert gather.received == gather.payload * 7 / 8
    assert scatter.payload == 64 * 128 * 2 + 64 * 4 and scatter.times == 1
    rows = collectives.summary(list(found.values()))
    assert rows[0]["received_bytes"] == 50 * gather.received and rows[0]["runs"] == 50


@pytest.mark.parametrize(
    "groups, axes, size",
    [
        ("replica_groups={{0,1},{2,3},{4,5},{6,7}}", "tensor", 2),
        ("replica_groups={{0,4},{1,5},{2,6},{3,7}}", "data", 2),
        ("replica_groups=[1,8]<=[8]", "data+fsdp+tensor", 8),
        ("replica_groups=[4,2]<=[8]", "tensor", 2),
        ("replica_groups=[4,2]<=[2,2,2]T(0,2,1)", "fsdp", 2),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", "data+fsdp", 4),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=2,'axis_2'=2] {'axis_1'}", "fsdp", 2),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", "fsdp+tensor", 4),
        ("replica_groups=mesh['a'=2,'b'=4] {'a','b':(1)2}", "data+fsdp", 4),
        (
            "replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}",
            "fsdp+tensor",
            4,
        ),
        ("replica_groups=mesh['a'=4,'b'=2], device_ids=(0,4,1,5,2,6,3,7) {'b'}", "data", 2),
        ("replica_groups={}", "data+fsdp+tensor", 8),
    ],
)
def test_groups_in_every_syntax_name_their_mesh_axes(groups, axes, size):
    mesh = {"data": 2, "fsdp": 2, "tensor": 2}
    found = {one.kind: one for one in collectives.find(text(groups), mesh)}
    assert (found["all-gather"].axes, len(found["all-gather"].group)) == (axes, size)


def test_a_clone_in_the_same_loop_counts_once():
    line = next(raw for raw in TEXT.splitlines() if "all-gather-start(" in raw)
    twice = TEXT.replace(line, line + "\n" + line.replace("%gather-start =", "%clone ="))
    found = collectives.find(hlo.parse(twice.replace("GROUPS", ALL)), MESH)
    assert sum(one.kind == "all-gather" for one in found) == 1


def test_a_group_of_one_moves_nothing():
    assert not [
        one
        for one in collectives.find(text("replica_groups={{0},{1}}"), MESH)
        if one.kind == "all-gather"
    ]


@pytest.mark.parametrize("kind, times", [("all-reduce", 2), ("reduce-scatter", 1)])
def test_an_all_reduce_receives_twice(kind, times):
    found = text(**{"reduce-scatter(": f"{kind}("})
    one = next(x for x in collectives.find(found, MESH) if x.times == 1)
    assert one.received == times * one.payload * 7 / 8


def test_a_fused_scatter_of_a_tpu_receives_once():
    inside = "%all-reduce-scatter.3 (x: f32[64,128]) -> f32[8,128] {"
    summed = f"  %sum = f32[64,128] all-reduce(%x), channel_id=7, {ALL}, to_apply=%add"
    fused = "\n".join([inside, "  %x = f32[64,128] parameter(0)", summed, "}", ""])
    call = "  %x = f32[64,128] parameter(0)\n  ROOT %y = f32[8,128] fusion(%x), kind=kCustom, "
    entry = (
        f"\nENTRY %main (x: f32[64,128]) -> f32[8,128] {{\n{call}calls=%all-reduce-scatter.3\n}}"
    )
    (one,) = collectives.find(hlo.parse(fused + entry), MESH)
    assert (one.kind, one.received) == ("reduce-scatter", 64 * 128 * 4 * 7 / 8)


def test_of_a_stack_that_is_sliced_only_the_slice_is_read():
    reads = 50 * (8 * 128 * 4 + 4 + 8 * 128 * 2)  # slice and index read, result written
    assert traffic.memory_bytes(text(**{"all-gather-start": "all-gather-done"})) - reads < 2e5
    assert traffic.memory_bytes(text()) > reads


def test_a_slice_is_followed_through_other_shapes_and_scratch_is_no_traffic():
    inside = (
        "%fused (a: f32[50,64], i: s32[]) -> f32[1,64] {\n  %a = f32[50,64] parameter(0)\n"
        "  %i = s32[] parameter(1)\n  %b = f32[50,8,8] bitcast(%a)\n"
        "  ROOT %s = f32[1,64] dynamic-slice(%b, %i), dynamic_slice_sizes={1,8,8}\n}\n"
    )
    entry = (
        "\nENTRY %main (a: f32[50,64], i: s32[]) -> f32[64] {\n  %a = f32[50,64] parameter(0)\n"
        "  %i = s32[] parameter(1)\n"
        "  %f = f32[1,64] fusion(%a, %i), kind=kLoop, calls=%fused\n"
        "  ROOT %c = (f32[64], s8[999]) custom-call(%f)\n}\n"
    )
    fusion, call = 4 * 64 + 4 + 4 * 64, 4 * 64 + 4 * 64
    assert traffic.memory_bytes(hlo.parse(inside + entry)) == fusion + call


def test_bytes_of_types():
    assert hlo.array_bytes("(bf16[8,128]{1,0:T(8,128)(2,1)S(3)}, f32[], u32[]{:S(2)})") == 2056
    assert hlo.array_bytes("s4[10]") == 5
