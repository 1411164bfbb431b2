"""A robot data set as one self-contained HTML page."""

from html import escape
from importlib import resources
from typing import Any

from rt2.data.inspect import film
from rt2.data.inspect.charts import Slot, length_histogram, slot_histogram
from rt2.data.inspect.survey import examples, oddities
from rt2.data.rlds import RldsSteps
from rt2.page import html

EPISODES = 4  # with pictures
TEXTS = 30  # instructions


def page(found: dict[str, Any]) -> str:
    """The page of what `survey` has found; pictures are read from the data set."""
    parts = (
        _header(found),
        _cards(found),
        _first(found),
        _episodes(found),
        *(_split(name, split) for name, split in found["splits"].items() if "bins" in split),
        _row(found),
        _features(found),
    )
    style = resources.files("rt2.data.inspect").joinpath("inspect.css").read_text("utf-8")
    return html.document(f"{found['name']} {found['version']}", parts, style)


def _header(found: dict[str, Any]) -> str:
    return (
        f"<header><h1>{escape(found['name'])} {escape(found['version'])}</h1>"
        f"<p>{escape(found['directory'])} &middot; index {escape(found['content_hash'][:12])}"
        "</p></header>"
    )


def _cards(found: dict[str, Any]) -> str:
    cards = []
    for name, split in found["splits"].items():
        trained = f", {split['trainable']:,} to train on" if "trainable" in split else ""
        steps = f"of {split['steps']:,} steps{trained}"
        cards.append(html.count_card(f"episodes in {name}", split["episodes"], steps))
    first = next(iter(found["splits"].values()))
    if "instructions" in first:
        count = len(first["instructions"])
        cards.append(html.count_card("instructions", count, "different ones in the first split"))
    return html.cards([*cards, html.count_card("cameras", len(found["cameras"]), "in RGB")])


def _first(found: dict[str, Any]) -> str:
    odd = oddities(found)
    if not odd:
        lead = "No leak between splits, no constant or hardly used dimension, no NaN, no refusal."
        return html.section("Nothing odd was found", lead)
    items = "".join(f"<li>{escape(what)}</li>" for what in odd)
    lead = "What would train badly, or make a figure mean less than it says."
    return html.section("Look at this first", lead, html.panel(f'<ul class="odd">{items}</ul>'))


def _episodes(found: dict[str, Any]) -> str:
    name = next(iter(found["splits"]))
    steps, split = RldsSteps(found["directory"], name), found["splits"][name]
    readable = examples(found, name) if "bins" in split else None
    shown = film.episodes(steps, readable, found["cameras"], EPISODES)
    lead = (
        f"{len(shown)} of the {split['episodes']:,} episodes of {name}, spread evenly; time runs "
        "from left to right."
    )
    if readable is not None:
        lead += (
            " Below the pictures every dimension of the action: blue above the middle of its "
            "bounds, orange below, the stronger the further; blank steps are not trained on."
        )
    dimensions = split["dimensions"] if readable is not None else []
    return html.section("Watch it", lead, *(_episode(e, dimensions) for e in shown))


def _episode(episode: film.Episode, dimensions: list[str]) -> str:
    title = escape(episode.instruction) or "no instruction"
    head = f"<h3>{title} <span>episode {episode.number}, {episode.length} steps</span></h3>"
    films = "".join(_film(film_) for film_ in episode.films)
    return html.panel(head, films, _actions(episode, dimensions))


def _film(shown: film.Film) -> str:
    pictures = "".join(
        f'<figure><img loading="lazy" src="{html.data_uri(picture, "image/webp")}"'
        f' alt="{escape(shown.camera)}, step {step}"><figcaption>{step}</figcaption></figure>'
        for step, picture in zip(shown.steps, shown.pictures, strict=True)
    )
    return (
        f'<div class="lane"><div class="what">{escape(shown.camera)}</div>'
        f'<div class="film">{pictures}</div></div>'
    )


def _actions(episode: film.Episode, dimensions: list[str]) -> str:
    if episode.actions is None:
        return ""
    names = "".join(f"<span>{escape(name)}</span>" for name in dimensions)
    return (
        f'<div class="lane"><div class="what names">{names}</div>'
        f'<img class="strip" style="height:{14 * len(dimensions)}px" alt="actions over time"'
        f' src="{html.data_uri(episode.actions, "image/png")}"></div>'
    )


def _split(name: str, split: dict[str, Any]) -> str:
    charts = "".join(html.panel(slot_histogram(slot)) for slot in _slots(split))
    lead = (
        f"{split['trainable']:,} actions of {name} over their bins. The bounds that the first "
        "split gives stand at the ends, what lies outside them beside; the shaded part runs "
        "from q01 to q99. Heights are square roots of counts."
    )
    parts = (
        f'<div class="charts">{charts}</div>',
        "<h3>In numbers</h3>",
        _numbers(split),
        f'<div class="charts pair">{html.panel(length_histogram(split["lengths"]))}'
        f"{_instructions(split)}</div>",
    )
    return html.section(f"The split {name}", lead, *parts)


def _slots(split: dict[str, Any]) -> list[Slot]:
    columns = (
        split["dimensions"],
        split["units"],
        split["bounds"]["low"],
        split["bounds"]["high"],
        split["action"]["q01"],
        split["action"]["q99"],
        split["bins"],
    )
    return [Slot(*values) for values in zip(*columns, strict=True)]


def _numbers(split: dict[str, Any]) -> str:
    keys = ("mean", "std", "min", "q01", "q99", "max")
    rows = []
    for i, name in enumerate(split["dimensions"]):
        bins = split["bins"][i]
        figures = [html.Figure(f"{split['action'][key][i]:.4g}") for key in keys]
        figures.append(html.Figure(f"{bins['covered']:.0%}"))
        figures.append(html.Figure(f"{split['outside_bounds'][i]:.1%}"))
        rows.append([name, *figures])
    return html.table(["dimension", *keys, "q01-q99 of bounds", "outside"], rows)


def _instructions(split: dict[str, Any]) -> str:
    texts = split["instructions"]
    most = max(row["episodes"] for row in texts) or 1
    rows = "".join(
        f'<li><i style="width:{100 * row["episodes"] / most:.1f}%"></i>'
        f"<b>{row['episodes']:,}</b><span>{escape(row['text']) or '(empty)'}</span></li>"
        for row in texts[:TEXTS]
    )
    more = f"<p>and {len(texts) - TEXTS:,} more</p>" if len(texts) > TEXTS else ""
    title = f'<h3>Instructions <span>{len(texts):,}, by episodes</span></h3><ol class="texts">'
    return html.panel(f"{title}{rows}</ol>{more}")


def _row(found: dict[str, Any]) -> str:
    if found["python"] is None:
        lead = f"Read with the shipped row {found['spec']}."
        return html.section("Dataset spec", lead)
    lead = "Read the proposed row over, then save the config as a file in configs/ and train."
    return html.section("A config", lead, html.panel(f"<pre>{escape(found['python'])}</pre>"))


def _features(found: dict[str, Any]) -> str:
    rows = [[name, *what.split(" ", 3)] for name, what in found["features"].items()]
    lead = "What features.json says every step and every episode holds."
    head = ["feature", "of a", "kind", "type", "shape"]
    return html.section("Features", lead, html.table(head, rows))
