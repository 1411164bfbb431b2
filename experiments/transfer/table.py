"""The README's tables and plots, from results.json.

python experiments/transfer/table.py            the tables
python experiments/transfer/table.py --plots    success.png and ablations.png too: needs matplotlib
"""

import argparse
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

from measuring import CONDITIONS  # noqa: E402

from experiments import results  # noqa: E402
from rt2.evaluate.statistics import Rate  # noqa: E402

REFERENCES = ("random", "random object", "oracle")
NONE = "No such row has been run."
METHODS = ("scratch", "fine-tune", "co-fine-tune")
BASELINE = "RT-1-like"
STARTS = ("start, tiny", "start, mini")
ABLATIONS = {
    "Robot rows of a batch": (
        *("robot share 25 %", "robot share 50 %", "robot share 66 %", "co-fine-tune", "fine-tune"),
    ),
    "Actions": (
        *("co-fine-tune", "32 bins", "64 bins", "256 bins", "overwritten tokens"),
        "no constraint",
    ),
    "The target's place first": tuple(f"{method} with places" for method in METHODS),
}
KINDS = ("where", "find", "name", "what", "kind", "colour", "reason", "list", "caption")


def main() -> None:
    """Writes the tables, and on demand the plots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plots", action="store_true")
    args = parser.parse_args()
    results.keep(HERE, [], tables)
    if args.plots:
        import plots

        plots.write(HERE)


def tables(rows: results.Rows) -> list[str]:
    """Methods by condition, places that the starts find, answers by kind, ablations."""
    return [methods(rows), places(rows), answers(rows), ablations(rows)]


def methods(rows: results.Rows) -> str:
    """Success of references and methods under every condition, the seeds together."""
    names = [*REFERENCES, BASELINE, *(m + size for size in ("", " (mini)") for m in METHODS)]
    names = [name for name in names if any(pooled(rows, name, c) for c in CONDITIONS)]
    lines = [
        [condition, *(written(pooled(rows, name, condition)) for name in names)]
        for condition in CONDITIONS
    ]
    return results.markdown(["success, %", *names], lines) if names else NONE


def places(rows: results.Rows) -> str:
    """How often a start's answer to the robot's sentence is nearest to what it names."""
    names = [name for name in STARTS if pooled(rows, name, "seen/nearest")]
    lines = [
        [condition, *(written(pooled(rows, name, f"{condition}/nearest")) for name in names)]
        for condition in CONDITIONS
    ]
    return results.markdown(["nearest to it, %", *names], lines) if names else NONE


def answers(rows: results.Rows) -> str:
    """Exact answers of the start and of what training made of it."""
    names = [*STARTS[:1], *METHODS]
    names = [name for name in names if pooled(rows, name, "vqa")]
    lines = [
        [
            kind.removeprefix("vqa/").replace("vqa", "all"),
            *(written(pooled(rows, name, kind)) for name in names),
        ]
        for kind in ("vqa", *(f"vqa/{kind}" for kind in KINDS))
    ]
    return results.markdown(["exactly right, %", *names], lines) if names else NONE


def ablations(rows: results.Rows) -> str:
    """Success on three conditions, and the share of actions that no arm could carry out."""
    lines = []
    for title, names in ABLATIONS.items():
        for name in names:
            if pooled(rows, name, "seen"):
                shown = [pooled(rows, name, c) for c in ("seen", "web_only", "category")]
                invalid = pooled(rows, name, "seen/invalid")
                lines.append([title, name, *map(written, shown), written(invalid)])
    heads = ["", "row", "seen, %", "web_only, %", "category, %", "invalid actions, %"]
    return results.markdown(heads, lines) if lines else NONE


def pooled(rows: results.Rows, name: str, what: str) -> Rate | None:
    """The figure of a row with all its seeds together; None where there is none."""
    known = [row for row in rows.values() if _is(row["name"], name, what)]
    if not known:
        return None
    n = sum(row["n"] for row in known)
    return Rate(round(sum(row["ours"] * row["n"] for row in known)), n)


def _is(found: str, name: str, what: str) -> bool:
    first, _, rest = found.partition("/")
    if rest.startswith("seed "):
        rest = rest.partition("/")[2]
    return (first, rest) == (name, what)


def written(rate: Rate | None) -> str:
    """ "55.5 (48.6 - 62.2)", or nothing."""
    if rate is None:
        return ""
    low, high = (100 * bound for bound in rate.interval)
    return f"{100 * rate.value:.1f} ({low:.1f} - {high:.1f})"


if __name__ == "__main__":
    main()
