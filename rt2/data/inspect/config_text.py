"""A proposed row as a config file, with the reasons as comments."""

import textwrap
from pathlib import Path
from typing import Any

from rt2.data.inspect.proposal import Proposal

WIDTH = 100
HELD_OUT, ENOUGH = "95%", 20  # of one split alone, where it has as many episodes


def as_python(proposal: Proposal, directory: Path, episodes: dict[str, int]) -> str:
    """A config that trains on the first split of `episodes` (split -> count) by the proposed row.

    The second split, or the last 5 % of a large only one, is held out.
    """
    name, splits = proposal.row["name"], list(episodes)
    lines = [f"{_entry('config.dataset_specs', name)} = dict("]
    for field, value in proposal.row.items():
        if field != "name":
            lines += _field(field, value, proposal.reasons[field])
    lines.append(")")
    train, held_out = splits[0], splits[1] if len(splits) > 1 else ""
    if not held_out and episodes[train] >= ENOUGH:
        train, held_out = f"{train}[:{HELD_OUT}]", f"{train}[{HELD_OUT}:]"
    lines += _source(_entry("config.sources", name), directory, train, name)
    if held_out:
        lines += _source(_entry("config.eval_sources", name), directory, held_out, name)
    return (
        "from configs import common\n\n\ndef get_config():\n    config = common.get_config()\n"
        + textwrap.indent("\n".join(lines), " " * 4)
        + "\n    return config\n"
    )


def _source(entry: str, directory: Path, split: str, name: str) -> list[str]:
    arguments = ['"robot"', _literal(str(directory)), f"split={_literal(split)}"]
    arguments += [f"spec={_literal(name)}", "share=1.0"]
    line = f"    {', '.join(arguments)}"
    inside = [line] if len(line) <= WIDTH - 4 else [f"    {argument}," for argument in arguments]
    return [f"{entry} = common.source(", *inside, ")"]


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
    if isinstance(value, dict):
        return _call(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list | tuple):
        inner = ", ".join(map(_literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)
