"""Collectives of a compiled program: kind, bytes, mesh axes, and how often they run."""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Mapping

import numpy as np

from rt2.plan.hlo import Instruction, Text

KINDS = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "ragged-all-to-all",
    "collective-broadcast",
)
TPU_SCATTER = "all-reduce-scatter"  # a fusion: an all-reduce of which a device keeps its slice

_MESH = re.compile(
    r"replica_groups=mesh\[([^\]]*)\]"
    r"(?:,\s*device_ids=\((\[[\d,]+\](?:T\([\d,]+\))?|[\d,]+)\))?\s*\{([^}]*)\}"
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of the text. `payload` is the whole array that its group shares, in bytes.

    `axes` are the mesh axes along which the members of a group differ, joined by "+".
    """

    name: str
    kind: str
    payload: int
    group: tuple[int, ...]
    axes: str
    times: int
    computation: str
    source: str

    @property
    def received(self) -> float:
        """Bytes that a device receives each time, by the best algorithm on a ring."""
        n = len(self.group)
        if self.kind == "collective-permute":
            return float(self.payload)
        share = self.payload * (n - 1) / n
        return {"all-reduce": 2 * share, "all-to-all": share / n}.get(self.kind, share)


def find(text: Text, mesh: Mapping[str, int]) -> list[Collective]:
    """Every collective that a step runs, with how many times; `mesh` has the axes in order.

    A collective that the compiler split or cloned around others keeps its channel, and counts once
    for each loop that it stands in.
    """
    found: dict[tuple, Collective] = {}
    for line, computation, times in text.walk():
        kind = line.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        if computation.startswith(TPU_SCATTER):
            kind = "reduce-scatter"
        group = _group(line.rest, math.prod(mesh.values()))
        if len(group) < 2:
            continue
        source = re.search(r'op_name="([^"]*)"', line.rest)
        channel = re.search(r"channel_id=(\d+)", line.rest)
        key = (channel[1] if channel else line.name, times)
        found[key] = Collective(
            name=line.name,
            kind=kind,
            payload=_payload(line, kind, text.computations[computation], len(group)),
            group=group,
            axes=_axes(group, mesh),
            times=times,
            computation=computation,
            source=source[1] if source else "",
        )
    return list(found.values())


def _payload(line: Instruction, kind: str, beside: Mapping[str, Instruction], n: int) -> int:
    held = sum(beside[name].bytes for name in line.operands if name in beside)
    return held * n if kind in ("all-gather", "all-to-all") else held


def _group(rest: str, devices: int) -> tuple[int, ...]:
    """The first group of devices; every group of one collective has the same shape.

    The three syntaxes: {{0,1},{2,3}}, an iota [2,4]<=[4,2]T(1,0), and axes of a mesh
    mesh['a'=2,'b'=4] {'b'}, which may have an order of its own: device_ids=([4,2]T(1,0)).
    """
    if pairs := re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", rest):
        return tuple(map(int, pairs.groups()))
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
        return tuple(map(int, listed[1].split(",")))
    if iota := re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest):
        shape = _numbers(iota[3])
        order = _numbers(iota[4]) if iota[4] else range(len(shape))
        ids = np.arange(math.prod(shape)).reshape(shape).transpose(order).reshape(-1, int(iota[2]))
        return tuple(ids[0].tolist())
    if named := _MESH.search(rest):
        places = _mesh_group(named[1], named[3])
        if not named[2]:
            return places
        order = _device_order(named[2])
        return tuple(sorted(order[place] for place in places))
    return tuple(range(devices))


def _mesh_group(mesh: str, axes: str) -> tuple[int, ...]:
    """Devices that differ in `axes` alone; "'x':(2)4" is the part of x of size 4 after one of 2."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
    strides, stride = {}, 1
    for name in reversed(sizes):
        strides[name] = stride
        stride *= sizes[name]
    ids = np.zeros(1, int)
    for name, before, part in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", axes):
        count = int(part) if part else sizes[name]
        step = strides[name] * (sizes[name] // (int(before) * count) if part else 1)
        ids = (ids[:, None] + step * np.arange(count)).reshape(-1)
    return tuple(sorted(ids.tolist()))


def _device_order(text: str) -> list[int]:
    """The devices of a mesh in its own order: listed, or an iota "[4,16]T(1,0)"."""
    iota = re.match(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    if not iota:
        return _numbers(text)
    shape = _numbers(iota[1])
    order = _numbers(iota[2]) if iota[2] else range(len(shape))
    return np.arange(math.prod(shape)).reshape(shape).transpose(order).reshape(-1).tolist()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _axes(group: tuple[int, ...], mesh: Mapping[str, int]) -> str:
    places = np.array(np.unravel_index(group, tuple(mesh.values())))
    return "+".join(axis for axis, at in zip(mesh, places, strict=True) if len(set(at)) > 1)


def summary(found: list[Collective]) -> list[dict]:
    """Rows of kind, axes, how many run in a step and the bytes that a device receives by them."""
    rows: dict[tuple[str, str], list] = collections.defaultdict(lambda: [0, 0.0])
    for one in found:
        row = rows[one.kind, one.axes]
        row[0] += one.times
        row[1] += one.times * one.received
    return [
        {"kind": kind, "axes": axes, "runs": runs, "received_bytes": int(received)}
        for (kind, axes), (runs, received) in sorted(rows.items(), key=lambda item: -item[1][1])
    ]
