"""The survey of a data set for a terminal."""

from typing import Any

from rt2.data.inspect.survey import oddities

SHOWN = 8  # instructions


def as_text(found: dict[str, Any]) -> str:
    """The survey for a terminal."""
    lines = [f"{found['name']} {found['version']}  {found['directory']}", "", "features"]
    lines += [f"  {name:40} {what}" for name, what in found["features"].items()]
    for name, split in found["splits"].items():
        lines += ["", *_split(name, split, found["spec"])]
    if odd := oddities(found):
        lines += ["", *(f"warning: {what}" for what in odd)]
    if found["shipped"] and found["python"]:
        lines += ["", f"a row of this name is shipped: --spec={found['name']} shows what it reads"]
    if found["python"]:
        lines += [
            "",
            "a config with the proposed row: read it over, save it as a file in configs/, train",
        ]
        lines += ["", found["python"].rstrip()]
    return "\n".join(lines)


def _split(name: str, split: dict[str, Any], spec: str) -> list[str]:
    lengths = split["lengths"]
    lines = [
        f"{name}: {split['episodes']} episodes of {lengths['min']} to {lengths['max']} steps "
        f"(median {lengths['median']:g}), {split['steps']} steps"
    ]
    if "refused" in split:
        return lines
    texts = split["instructions"]
    lines += [f"  trainable with the {spec} row: {split['trainable']}"]
    lines += [
        f"  dropped, {reason}: {count}" for reason, count in split["dropped"].items() if count
    ]
    lines += [f"  instructions: {len(texts)}"]
    lines += [f"  {row['episodes']:>6} episodes  {row['text']!r}" for row in texts[:SHOWN]]
    lines += [f"    and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
    lines += ["  " + "".join(f"{head:>11}" for head in (*_HEADS, "outside", "bins used"))]
    return lines + ["  " + "".join(f"{cell:>11}" for cell in row) for row in _rows(split)]


_HEADS = ("action", "mean", "std", "min", "q01", "q99", "max")


def _rows(split: dict[str, Any]) -> list[list[str]]:
    action, rows = split["action"], []
    for i, name in enumerate(split["dimensions"]):
        numbers = [action[key][i] for key in _HEADS[1:]]
        counts = split["bins"][i]["counts"]
        used = f"{sum(map(bool, counts))}/{len(counts)}"
        shown = [f"{n:.4g}" for n in numbers]
        rows.append([name, *shown, f"{split['outside_bounds'][i]:.1%}", used])
    return rows
