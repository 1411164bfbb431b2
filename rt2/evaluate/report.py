"""An evaluation as one self-contained HTML page: no script, no network, readable light and dark."""

import math
from html import escape
from importlib import resources

from rt2.evaluate import html
from rt2.evaluate.charts import Bar, curve, histograms, interval_bars
from rt2.evaluate.results import CHECKPOINT, Evaluation, pooled
from rt2.evaluate.video import Video
from rt2.page import html as page

CURVES = 12  # more charts than this are named under the others, not drawn
FIRST_CURVES = ("loss", "accuracy", "error", "examples")  # in this order


def render(evaluation: Evaluation) -> str:
    """The page, as text."""
    parts = (
        _header(evaluation),
        _cards(evaluation),
        _rollouts(evaluation),
        _videos(evaluation),
        _vqa(evaluation),
        _actions(evaluation),
        _training(evaluation),
        _provenance(evaluation),
    )
    style = resources.files("rt2.evaluate").joinpath("report.css").read_text("utf-8")
    return page.document(f"Evaluation of {_name(evaluation)}", parts, style)


def _name(evaluation: Evaluation) -> str:
    return ", ".join(evaluation.provenance["model"]["datasets"]) or "image-text alone"


def _header(evaluation: Evaluation) -> str:
    source = evaluation.provenance
    return (
        f"<header><h1>What this policy can do</h1><p>Trained on {escape(_name(evaluation))}"
        f" &middot; evaluated {escape(source['date'][:10])} &middot; commit "
        f"{escape(source['commit'][:10])} &middot; seed {source['seed']}</p></header>"
    )


def _cards(evaluation: Evaluation) -> str:
    own = [row for row in evaluation.rollouts if row["policy"] == CHECKPOINT]
    cards = [
        html.card(f"{row['task']}, {html.words(row['split'])} objects", row["success"])
        for row in own
    ]
    if evaluation.vqa:
        answers = pooled([row["exact"] for row in evaluation.vqa])
        cards.append(html.card("questions answered exactly", answers))
    for row in evaluation.actions:
        cards.append(html.card(f"action tokens right, {row['source']}", row["token_accuracy"]))
    if own:
        invalid, sent = (sum(row[key] for row in own) for key in ("invalid", "actions"))
        cards.append(page.count_card("invalid actions", invalid, f"of {sent:,} sent to the arm"))
    return page.cards(cards)


def _rollouts(evaluation: Evaluation) -> str:
    if not evaluation.rollouts:
        return ""
    charts = []
    for task in dict.fromkeys(row["task"] for row in evaluation.rollouts):
        rows = [row for row in evaluation.rollouts if row["task"] == task]
        bars = [
            Bar(html.words(row["split"]), row["policy"], row["success"], _style(row) or "model")
            for row in rows
        ]
        charts.append(
            f'<div class="panel"><h3 style="margin-top:0">{escape(task)}</h3>'
            f"{interval_bars(bars, f'success in {task}')}</div>"
        )
    rows = evaluation.rollouts
    table = html.table(
        [
            "task",
            "objects",
            "policy",
            "success",
            "steps to success",
            "invalid actions",
            "actions sent",
        ],
        [
            [row["task"], html.words(row["split"]), row["policy"], row["success"], row["steps"]]
            + [row["invalid"], row["actions"]]
            for row in rows
        ],
        [_style(row) for row in rows],
    )
    return page.section(
        "Closed loop",
        "Share of episodes in which the policy did what the instruction says, on scenes that every "
        "policy meets alike. Whiskers are Wilson's 95 % intervals.",
        *charts,
        table,
    )


def _style(row: dict) -> str:
    return "" if row["policy"] == CHECKPOINT else "reference"


def _videos(evaluation: Evaluation) -> str:
    if not evaluation.videos:
        return ""
    groups: dict[str, list[Video]] = {}
    for shown in evaluation.videos:
        name = f"{shown.task}, {html.words(shown.split)} objects"
        groups.setdefault(name, []).append(shown)
    parts = [
        f'<h3>{escape(name)}</h3><div class="videos">{"".join(map(html.video, group))}</div>'
        for name, group in groups.items()
    ]
    return page.section(
        "Watch it",
        "Failures first, then successes, the first of each in the order of their seeds: none was "
        "picked by hand. "
        "Drawn again from the actions, larger than the policy saw it.",
        *parts,
    )


def _vqa(evaluation: Evaluation) -> str:
    if not evaluation.vqa:
        return ""
    head, keys = ["question", "language", "exact match"], ["kind", "language", "exact"]
    if any(row["accuracy"].value != row["exact"].value for row in evaluation.vqa):
        head, keys = [*head, "VQA accuracy"], [*keys, "accuracy"]
    for key, name in (("before", "before"), ("cider", "CIDEr")):
        if any(row[key] is not None for row in evaluation.vqa):
            head, keys = [*head, name], [*keys, key]
    head, keys = [*head, "distance in cells", "no place"], [*keys, "distance", "unreadable"]
    return page.section(
        "Questions about pictures",
        "Answers to held-out questions, by kind and language. VQA accuracy, shown where questions "
        "have three answers or more, is the share of three people who said the same. Places also "
        "have the distance to the true one; answers that are no place are counted apart. What "
        'the pre-trained start said to the same questions stands under "before".',
        html.table(head, [[_written(row[key]) for key in keys] for row in evaluation.vqa]),
    )


def _written(value):
    return f"{value:.2f}" if isinstance(value, float) else value


def _actions(evaluation: Evaluation) -> str:
    if not evaluation.actions:
        return ""
    rows = [
        [row["source"], slot["name"], slot["unit"] or "–", slot["error"], slot["baseline"]]
        for row in evaluation.actions
        for slot in row["slots"]
    ]
    return page.section(
        "Actions on recorded episodes",
        "Mean absolute difference from the recorded action on held-out episodes, beside that of "
        "always giving the median action. Steps of one episode are not independent: the intervals "
        "are narrower than they should be.",
        html.table(["episodes", "dimension", "unit", "policy", "median action"], rows),
        "<p>Stops are false where the recorded episode goes on. The last column asks the same "
        "pictures with another step's instruction: a policy that does not read has 0 there.</p>",
        html.table(
            ["episodes", "tokens right", "false stops", "other instruction, other action"],
            [
                [row["source"], *(_or_dash(row[key]) for key in _SHARES)]
                for row in evaluation.actions
            ],
        ),
        *_distributions(evaluation),
        *_worst(evaluation),
    )


def _distributions(evaluation: Evaluation) -> list[str]:
    """A chart for every dimension of every robot."""
    charts = [
        _distribution(f"{row['source']}, {slot['name']} {slot['unit']}".rstrip(), slot["histogram"])
        for row in evaluation.actions
        for slot in row["slots"]
    ]
    legend = '<b class="recorded">recorded</b> and <b class="given">the policy\'s</b>'
    told = f"<h3>Values</h3><p>How often each value was {legend}, on the same steps.</p>"
    return [told, f'<div class="curves">{"".join(charts)}</div>'] if charts else []


def _distribution(title: str, found: dict) -> str:
    series = [(name, found[name]) for name in ("recorded", "given")]
    return f'<div class="panel">{histograms(found["edges"], series, title)}</div>'


def _worst(evaluation: Evaluation) -> list[str]:
    """Where to look first."""
    rows = [
        [row["source"], one["episode"], one["instruction"], one["steps"], f"{one['error']:.2f}"]
        for row in evaluation.actions
        for one in row["worst"]
    ]
    head = ["episodes", "number", "instruction", "steps asked", "error, in median actions'"]
    told = (
        "<h3>Worst episodes first</h3><p>The mean over dimensions of the policy's difference, as a "
        "share of that of always giving the median action.</p>"
    )
    return [told, html.table(head, rows)] if rows else []


_SHARES = ("token_accuracy", "false_stops", "heeded")


def _or_dash(value):
    return "–" if value is None else value


def _training(evaluation: Evaluation) -> str:
    series = _series(evaluation.metrics)
    if not series:
        return ""
    drawn = [item for item in series if any(math.isfinite(v) for _, v in item[1])][:CURVES]
    charts = [
        f'<div class="panel">{curve(*zip(*points, strict=True), name)}</div>'
        for name, points in drawn
    ]
    rest = ", ".join(name for name, points in series if (name, points) not in drawn)
    more = f"<h3>Also in metrics.jsonl</h3><p>{escape(rest)}</p>" if rest else ""
    return page.section(
        "Training",
        "Each figure over the steps of training; its last value stands at the right.",
        f'<div class="curves">{"".join(charts)}</div>{more}',
    )


def _series(metrics: list[dict]) -> list[tuple[str, list[tuple[float, float]]]]:
    """Every number of the rows over its step, the ones most looked at first."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in metrics:
        for name, value in _flat(row):
            if name != "step":
                series.setdefault(name, []).append((row["step"], value))

    def rank(item) -> tuple[int, str]:
        places = [i for i, word in enumerate(FIRST_CURVES) if word in item[0]]
        return (min(places, default=len(FIRST_CURVES)), item[0])

    return sorted(series.items(), key=rank)


def _flat(row: dict, prefix: str = ""):
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + name, float(value)


def _provenance(evaluation: Evaluation) -> str:
    source = evaluation.provenance
    versions = ", ".join(f"{name} {version}" for name, version in source["versions"].items())
    computer = source["machine"]
    items = [
        ("commit", source["commit"]),
        ("date", source["date"]),
        ("seed", str(source["seed"])),
        ("machine", f"{computer['cpu']}, {computer['cores']} cores, {computer['devices']}"),
        ("versions", versions),
        *((name, str(value)) for name, value in source["model"].items()),
    ]
    omitted = "".join(f"<li>{escape(sentence)}</li>" for sentence in evaluation.omitted)
    return page.section(
        "How this was measured",
        "The command, and all that its figures depend on.",
        f'<div class="panel"><pre>{escape(source["command"])}</pre>{page.definitions(items)}</div>',
        f"<h3>Not measured</h3><ul>{omitted}</ul>" if omitted else "",
        "<footer>Pictograms: OpenMoji (openmoji.org), CC BY-SA 4.0.</footer>",
    )
