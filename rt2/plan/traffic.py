"""Bytes that a compiled program moves between memory and cores, an upper estimate.

Every instruction outside a fusion reads its operands and writes its result once; of an array that
is only sliced or updated in place, the slice counts. What a chip keeps in its own caches is not
known here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping

from rt2.plan.hlo import Instruction, Text

FREE = frozenset(
    "parameter constant tuple get-tuple-element bitcast while conditional call iota after-all "
    "partition-id replica-id opt-barrier optimization-barrier copy-done".split()
)
SLICES = ("dynamic-slice", "slice", "gather")
UPDATE = "dynamic-update-slice"


def memory_bytes(text: Text) -> int:
    """Bytes read and written by one device in one run."""
    fused = {
        name
        for lines in text.computations.values()
        for line in lines.values()
        if line.opcode in ("fusion", "async-start")
        for name in text.called(line)
    }
    return sum(
        times * _moved(line, text.computations[where], text)
        for line, where, times in text.walk()
        if where not in fused and line.opcode not in FREE and not line.opcode.endswith("-done")
    )


def _moved(line: Instruction, beside: Mapping[str, Instruction], text: Text) -> int:
    if line.opcode in SLICES:
        return 2 * line.bytes
    if line.opcode == UPDATE:
        return 2 * _bytes(beside, line.operands[1])
    inside = next((text.computations[name] for name in text.called(line)), None)
    if line.opcode == "custom-call":  # a library's; what it has beside its result is scratch
        line = dataclasses.replace(line, type=re.sub(r"[su]8\[\d+\]", "", line.type))
    if line.opcode != "fusion" or inside is None:
        return line.bytes + sum(_bytes(beside, name) for name in line.operands)
    read = sum(
        min(_bytes(beside, name), _read(inside, index)) for index, name in enumerate(line.operands)
    )
    return read + _written(line, inside)


def _read(inside: Mapping[str, Instruction], index: int) -> int:
    """Bytes that a fusion reads of its operand."""
    name = next(
        (
            x.name
            for x in inside.values()
            if x.opcode == "parameter" and x.operands == (str(index),)
        ),
        None,
    )
    users = list(_users(inside, name))
    if name and users and all(map(_partial, users)):
        return sum(
            _bytes(inside, line.operands[1]) if line.opcode == UPDATE else line.bytes
            for line in users
        )
    return inside[name].bytes if name else 0


def _users(inside: Mapping[str, Instruction], name: str | None) -> Iterator[Instruction]:
    """What reads an array inside a fusion, under whatever other shape."""
    for line in inside.values():
        if name in line.operands and line.opcode == "bitcast":
            yield from _users(inside, line.name)
        elif name in line.operands[1:]:
            yield dataclasses.replace(line, opcode="")  # read whole, even by a slice's neighbour
        elif name in line.operands:
            yield line


def _partial(line: Instruction) -> bool:
    return line.opcode in SLICES or line.opcode == UPDATE


def _written(line: Instruction, inside: Mapping[str, Instruction]) -> int:
    updates = [x for x in inside.values() if x.opcode == UPDATE and x.bytes == line.bytes]
    return _bytes(inside, updates[0].operands[1]) if len(updates) == 1 else line.bytes


def _bytes(beside: Mapping[str, Instruction], name: str) -> int:
    return beside[name].bytes if name in beside else 0
