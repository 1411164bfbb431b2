"""Reads the text of a compiled program: its computations, loops and how often each part runs.

XLA's own cost analysis counts the body of a loop once, so the plan multiplies trip counts itself.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator

ITEM_BYTES = {
    **dict.fromkeys(("pred", "s8", "u8", "f8e4m3fn", "f8e5m2"), 1),
    **dict.fromkeys(("bf16", "f16", "s16", "u16"), 2),
    **dict.fromkeys(("f32", "s32", "u32"), 4),
    **dict.fromkeys(("f64", "s64", "u64", "c64"), 8),
    **dict.fromkeys(("s4", "u4"), 0.5),
}
_HEAD = re.compile(r"^(ENTRY )?%?([\w.$-]+) (?:\(.*\) -> .*)?\{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.$-]+) = (.*)$")
_OPCODE = re.compile(r"(?:^|\s)([a-z][\w-]*)\(")
_ARRAY = re.compile(r"\b(" + "|".join(ITEM_BYTES) + r")\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|async_execution_thread)=%?([\w.$-]+)")
_BRANCHES = re.compile(
    r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.$-]+))"
)
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: `type` is the text of its result, `rest` what follows the operands."""

    name: str
    opcode: str
    type: str
    operands: tuple[str, ...]
    rest: str

    @property
    def bytes(self) -> int:
        """Of its result; a tuple's elements together."""
        return array_bytes(self.type)


@dataclasses.dataclass(frozen=True)
class Text:
    """Instructions by computation, and which computation the program begins with."""

    computations: dict[str, dict[str, Instruction]]
    entry: str

    def walk(self) -> Iterator[tuple[Instruction, str, int]]:
        """Every instruction that runs, its computation and how many times a step runs it.

        Of a conditional's branches each counts once, so that nothing is missed.
        """
        yield from self._walk(self.entry, 1)

    def _walk(self, computation: str, times: int) -> Iterator[tuple[Instruction, str, int]]:
        for line in self.computations[computation].values():
            yield line, computation, times
            if line.opcode == "while":
                body, condition = (re.search(rf"{k}=%?([\w.$-]+)", line.rest)[1] for k in _LOOP)
                yield from self._walk(body, times * self.trips(line, condition))
            elif not line.opcode.endswith(("-done", "-update")):
                for called in self.called(line):
                    yield from self._walk(called, times)

    def called(self, line: Instruction) -> list[str]:
        """The computations that an instruction runs, those of a loop apart."""
        if line.opcode not in ("fusion", "call", "conditional", "async-start"):
            return []
        names = _CALLED.findall(line.rest)
        for several, one in _BRANCHES.findall(line.rest):
            names += [name.strip().lstrip("%") for name in (several or one).split(",")]
        return [name for name in names if name in self.computations]

    def trips(self, loop: Instruction, condition: str) -> int:
        """Iterations of a while loop: XLA's own count, or else the bound that it compares with."""
        if known := _TRIPS.search(loop.rest):
            return int(known[1])
        bounds = [
            int(line.operands[0])
            for line in self._reached(condition)
            if line.opcode == "constant" and re.match(r"[su](32|64)\[\]", line.type)
        ]
        return max(bounds, default=1)

    def _reached(self, computation: str) -> Iterator[Instruction]:
        for line in self.computations[computation].values():
            yield line
            for called in self.called(line):
                yield from self._reached(called)


_LOOP = ("body", "condition")


def parse(text: str) -> Text:
    """The computations of a compiled program's text."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry = ""
    inside: dict[str, Instruction] | None = None
    for raw in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if head := _HEAD.match(raw):
            inside = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif inside is not None and (line := _LINE.match(raw)) and (found := _read(*line.groups())):
            inside[found.name] = found
    return Text(computations, entry)


def _read(name: str, text: str) -> Instruction | None:
    opcode = _OPCODE.search(text)
    if not opcode:
        return None
    depth, end = 0, opcode.end() - 1
    for end in range(opcode.end() - 1, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if not depth:
            break
    inside = text[opcode.end() : end]
    operands = tuple(
        part.strip().split(" ")[-1].lstrip("%") for part in inside.split(",") if part.strip()
    )
    return Instruction(name, opcode[1], text[: opcode.start()], operands, text[end + 1 :])


def array_bytes(type_text: str) -> int:
    """Bytes of all arrays that a type names."""
    return int(
        sum(
            ITEM_BYTES[kind] * math.prod(int(side) for side in sides.split(",") if side)
            for kind, sides in _ARRAY.findall(type_text)
        )
    )
