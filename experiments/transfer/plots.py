"""success.png, after the paper's Figure 4, and ablations.png, after its Figure 6."""

import json
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import table  # noqa: E402
from measuring import CONDITIONS  # noqa: E402

COLOURS = ("#9aa5b1", "#e8a33d", "#2f6fb2", "#5a9367")


def write(folder: pathlib.Path) -> None:
    """Draws both pictures from results.json."""
    rows = {row["name"]: row for row in json.loads((folder / "results.json").read_text())}
    success(rows, folder / "success.png")
    ablations(rows, folder / "ablations.png")


def success(rows: dict, file: pathlib.Path) -> None:
    """Bars by condition and method, with their intervals; a line where no reading is needed."""
    figure, axes = plt.subplots(figsize=(11, 4), layout="constrained")
    methods = [*table.METHODS, table.BASELINE]
    for i, (name, colour) in enumerate(zip(methods, COLOURS, strict=True)):
        for k, condition in enumerate(CONDITIONS):
            if rate := table.pooled(rows, name, condition):
                _bar(axes, k + 0.21 * (i - 1.5), rate, colour, 0.2, name if k == 0 else None)
    for k, condition in enumerate(CONDITIONS):
        if rate := table.pooled(rows, "random object", condition):
            label = "goes to a random object" if k == 0 else None
            axes.hlines(100 * rate.value, k - 0.42, k + 0.42, "black", "dashed", label=label)
    _finish(figure, axes, file, [name.replace("_", "\n") for name in CONDITIONS])


def ablations(rows: dict, file: pathlib.Path) -> None:
    """Bars by row, seen and web_only."""
    names = dict.fromkeys(name for some in table.ABLATIONS.values() for name in some)
    names = [name for name in names if table.pooled(rows, name, "seen")]
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    for i, (condition, colour) in enumerate(zip(("seen", "web_only"), COLOURS[1:3], strict=True)):
        for k, name in enumerate(names):
            if rate := table.pooled(rows, name, condition):
                label = condition if k == 0 else None
                _bar(axes, k + 0.4 * (i - 0.5), rate, colour, 0.36, label)
    _finish(figure, axes, file, [_broken(name) for name in names])


def _broken(name: str) -> str:
    """The name in two lines, where it has a second word."""
    return name if name.count(" ") == 0 else "\n".join(name.replace(" %", "%").rsplit(" ", 1))


def _bar(axes, x: float, rate, colour: str, width: float, label: str | None) -> None:
    low, high = rate.interval
    spread = [[100 * (rate.value - low)], [100 * (high - rate.value)]]
    axes.bar(x, 100 * rate.value, width, color=colour, yerr=spread, capsize=2, label=label)


def _finish(figure, axes, file: pathlib.Path, labels: list[str]) -> None:
    axes.set_xticks(range(len(labels)), labels, fontsize=7)
    axes.set_ylabel("success, %")
    axes.set_ylim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.14))
    figure.savefig(file, dpi=130)
    plt.close(figure)
