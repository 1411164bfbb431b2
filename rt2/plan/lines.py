"""A plan in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINDS = ("parameters", "optimizer", "gradients", "batch", "temporaries")


def lines(plan: Mapping[str, Any]) -> list[str]:
    """What a terminal shows."""
    return [
        f"{plan['variant']}, {plan['parameters'] / 1e9:.3g} B parameters, on {plan['topology']}: "
        f"{plan['chips']} chips, mesh {plan['mesh']}, batch {plan['batch_size']}, "
        f"remat {plan['remat']}",
        *_memory(plan),
        *_time(plan),
        *_programs(plan),
        "assuming:",
        *(f"  {name:<16}{text}" for name, text in plan["assumptions"]),
    ]


def verdict(plan: Mapping[str, Any]) -> str:
    """Whether it fits, in a sentence, with the knobs that would make it fit."""
    room = plan["usable_bytes"] / 2**30
    total = plan["bytes"]["total"] / 2**30
    if plan["fits"]:
        what = "fits" if plan["bytes"]["temporaries"] is not None else "fits before activations"
        return f"{what}: {total:.1f} of {room:.1f} GiB usable on each chip"
    return f"does NOT fit: {total:.1f} of {room:.1f} GiB usable on each chip. Try " + "; or ".join(
        plan["advice"]
    )


def action(line: Mapping[str, float]) -> list[str]:
    """The times of one action."""
    names = ("compute", "weights", "memory", "communication", "latency")
    return [
        *(f"  {name:<16}{1e3 * line[name]:10.1f} ms" for name in names),
        f"an action takes between {1e3 * line['least']:.1f} ms, where only weights are read, and "
        f"{1e3 * line['most']:.1f} ms, all traffic: {1 / line['most']:.1f} to "
        f"{1 / line['least']:.1f} a second",
    ]


def _memory(plan: Mapping[str, Any]) -> list[str]:
    held = [(kind, plan["bytes"][kind]) for kind in KINDS if plan["bytes"][kind] is not None]
    return [*(f"  {k:<16}{size / 2**30:10.3f} GiB a chip" for k, size in held), verdict(plan)]


def _time(plan: Mapping[str, Any]) -> list[str]:
    if "action" in plan:
        return action(plan["action"])
    if "roofline" not in plan:
        return []
    line, train = plan["roofline"], plan["programs"]["train"]
    said = [f"  {name:<16}{line[name]:10.3f} s" for name in ("compute", "memory", "communication")]
    gathers = "gathers the whole model outside the layers" if plan["regathers_the_model"] else ""
    return [
        f"a step: {train['flops']:.3g} FLOP, of which {plan['model_flops']:.3g} the model's",
        *said,
        f"no step is faster than {line['seconds']:.2f} s ({line['bound']}); estimate "
        f"{line['estimate']:.2f} s, model FLOPs utilization "
        f"{line['model_flops_utilization']:.0%}",
        *([f"DEFECT: {gathers}"] if gathers else []),
    ]


def _programs(plan: Mapping[str, Any]) -> list[str]:
    said = []
    for name, row in plan["programs"].items():
        if "overflow" in row:
            said.append(f"{name}: refused by the compiler: {row['overflow'][:120]}")
            continue
        said.append(
            f"{name}: compiled in {row['seconds']:.0f} s ({row['cpu_seconds']:.0f} CPU), needs "
            f"{row['needed_bytes'] / 2**30:.1f} GiB a chip and {row['rss_bytes'] / 2**30:.1f} GiB "
            f"of the host; receives {row['received_bytes'] / 1e9:.1f} GB a chip"
        )
        said += [
            f"  {one['kind']:<20}{one['axes']:<14}{one['runs']:>7} x "
            f"{one['received_bytes'] / 1e9:10.3f} GB"
            for one in row["collectives"]
        ]
    return said
