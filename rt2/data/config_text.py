"""A proposed row as the lines of Python that a config wants, with the reasons as comments."""

import textwrap
from pathlib import Path
from typing import Any

from rt2.data.proposal import Proposal

WIDTH = 100


def as_python(proposal: Proposal, directory: Path, split: str) -> str:
    """Two statements for the body of `get_config`: the dataset spec and a source that reads it."""
    name = proposal.row["name"]
    lines = [f"{_entry('config.dataset_specs', name)} = dict("]
    for field, value in proposal.row.items():
        if field != "name":
            lines += _field(field, value, proposal.reasons[field])
    source = f"split={_literal(split)}, spec={_literal(name)}, share=1.0"
    lines += [
        ")",
        f"{_entry('config.sources', name)} = common.source(",
        f'    "robot", {_literal(str(directory))}, {source}',
        ")",
    ]
    if len(lines[-2]) > WIDTH - 4:
        arguments = ['"robot"', _literal(str(directory)), *source.split(", ")]
        lines[-2:-1] = [f"    {argument}," for argument in arguments]
    return textwrap.indent("\n".join(lines), " " * 4)


def _entry(holder: str, name: str) -> str:
    return f"{holder}.{name}" if name.isidentifier() else f"{holder}[{_literal(name)}]"


def _field(field: str, value: Any, reason: str) -> list[str]:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        said = [f"    {field}=(", *(f"        {_call(slot)}," for slot in value), "    ),"]
    else:
        said = [f"    {field}={_literal(value)},"]
    if len(said) == 1 and len(said[0]) + len(reason) + 8 <= WIDTH:
        return [f"{said[0]}  # {reason}"]
    comment = textwrap.wrap(reason, WIDTH - 10)
    return [*(f"    # {line}" for line in comment), *said]


def _call(slot: dict[str, Any]) -> str:
    return f"dict({', '.join(f'{key}={_literal(value)}' for key, value in slot.items())})"


def _literal(value: Any) -> str:
    """`value` as ruff would write it: double quotes, tuples for lists."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return _call(value)
    if isinstance(value, list | tuple):
        inner = ", ".join(map(_literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)
