"""Which layout a file has, and whether each of its tensors and of our parameters is accounted for.

Every tensor of the file is used, must equal another one, or is dropped for a reason that the layout
states; every parameter of the parts that the file describes gets a value. Anything else is an
error that names it.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence

import numpy as np

from rt2.models import vit as model_vit
from rt2.models.build import Model
from rt2.models.weights import paligemma, t5, vit
from rt2.models.weights.files import Tensors, WeightsError
from rt2.models.weights.layout import Layout, Row

LAYOUTS = (
    paligemma.PALIGEMMA,
    paligemma.BIG_VISION_PALIGEMMA,
    paligemma.GEMMA,
    t5.T5,
    vit.VIT,
    vit.SIGLIP,
    vit.BIG_VISION,
    vit.BIG_VISION_SCANNED,
)
OTHER_ROWS = 2048  # largest difference between two vocabularies that are the same but for additions
OWN = "rt2"
LIKE = 0.5  # least likeness of a layout and a file of it
SHOWN = 12  # lines of an error

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Found:
    """A file's tensors by the names that `layout` gives them, and the rows asked for."""

    tensors: Tensors
    layout: Layout
    names: Mapping[str, str]  # the layout's name -> the file's
    rows: tuple[Row, ...]
    parts: tuple[str, ...]  # of the model: vision, projection, text

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[self.names[name]]


def find(tensors: Tensors, model: Model, part: str = "") -> Found:
    """What the file is, by the names in it.

    Raises WeightsError where no layout fits or the file has nothing for `part`.
    """
    layout = _own_layout(tensors, model) or layout_of(tensors)
    parts = parts_of(layout)
    if part and part not in parts:
        raise WeightsError(f"{tensors.path}: {layout.name} has no part {part!r}; it has {parts}")
    parts = (part,) if part else parts
    rows = tuple(row for row in layout.rows if _part(row.ours) in parts)
    names = {layout.renamed(name): name for name in tensors}
    return Found(tensors, layout, names, rows, parts)


def layout_of(tensors: Tensors) -> Layout:
    """The layout of a public file. Raises WeightsError where none is like it."""
    layout = max(LAYOUTS, key=lambda layout: layout.likeness(tensors))
    if layout.likeness(tensors) >= LIKE:
        return layout
    raise WeightsError(
        f"{tensors.path}: no known layout has the names {some(sorted(tensors))}; known: "
        + ", ".join(layout.name for layout in LAYOUTS)
    )


def parts_of(layout: Layout) -> tuple[str, ...]:
    """The parts of a model that a layout fills: projection, text, vision."""
    return tuple(sorted({_part(row.ours) for row in layout.rows}))


def _own_layout(tensors: Tensors, model: Model) -> Layout | None:
    if not set(tensors) & set(model.shapes):
        return None
    paths = sorted({*tensors, *model.shapes})
    return Layout(OWN, tuple(Row(path, path, lambda _, tensor: tensor) for path in paths))


def dropped(found: Found) -> dict[str, list[str]]:
    """Reason -> names of the file's tensors that the layout leaves out."""
    reasons: dict[str, list[str]] = {}
    for name in found.names:
        if reason := found.layout.drops(name):
            reasons.setdefault(reason, []).append(name)
    return reasons


def sources(found: Found, model: Model) -> dict[str, list[np.ndarray]]:
    """Our path -> arrays that make it up along its first axis, all of the right shape.

    Raises WeightsError with every miss, leftover, difference and wrong shape.
    """
    rows = {row.ours: row for row in found.rows}
    made, problems = {}, []
    for path, shape in model.shapes.items():
        if _part(path) not in found.parts:
            continue
        if path not in rows:
            problems.append(f"{path}: the layout has nothing for it")
            continue
        names = _names(rows[path], shape.shape)
        if missing := [name for name in names if name not in found.names]:
            problems.append(f"{path}: the file has no {some(missing)}")
            continue
        try:
            made[path] = _pieces(found, rows[path], model)
        except ValueError as error:
            theirs = [f"{found.names[name]} {list(found[name].shape)}" for name in names]
            problems.append(f"{path} {list(shape.shape)} from {some(theirs)}: {error}")
    problems += _leftovers(found, model)
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        text = "\n  ".join(problems[:SHOWN] + more)
        raise WeightsError(
            f"{found.tensors.path} ({found.layout.name}) does not fit the model:\n  {text}\n"
            "Use the --config.model.variant that has these weights' sizes, or other weights"
        )
    return made


def _leftovers(found: Found, model: Model) -> list[str]:
    """What stands in the file and nothing reads."""
    users: dict[str, list[str]] = {}
    for row in found.layout.rows:
        shape = model.shapes[row.ours].shape if row.ours in model.shapes else (1,)
        for name in _names(row, shape):
            users.setdefault(name, []).append(row.ours)
    problems = []
    for name in sorted(found.names):
        if name in found.layout.same:
            other = found.layout.same[name]
            if other not in found.names or not np.array_equal(found[name], found[other]):
                problems.append(
                    f"{found.names[name]} is not the same as {other}, and the model has only one"
                )
        elif name in users:
            unread = not set(users[name]) & set(model.shapes)
            if unread and _part(users[name][0]) in found.parts:
                problems.append(f"{found.names[name]}: the model has no {users[name][0]}")
        elif not found.layout.drops(name):
            shape = list(found[name].shape)
            problems.append(f"{found.names[name]} {shape}: {_why(found, name, model)}")
    return problems


def _why(found: Found, name: str, model: Model) -> str:
    for row in found.layout.rows:
        pattern = re.escape(row.names("{}")[0]).replace(r"\{\}", r"\d+")
        if row.stacked and re.fullmatch(pattern, name) and row.ours in model.shapes:
            return f"the model has only {model.shapes[row.ours].shape[0]} layers"
    return "left over, nothing reads it"


def _names(row: Row, shape: Sequence[int]) -> list[str]:
    """Every tensor of a row: of every layer, where ours is a stack of `shape`."""
    if not row.stacked:
        return list(row.names())
    return [name for layer in range(shape[0]) for name in row.names(layer)]


def _pieces(found: Found, row: Row, model: Model) -> list[np.ndarray]:
    shape = model.shapes[row.ours].shape
    if row.stacked:
        layers = (row.names(layer) for layer in range(shape[0]))
        pieces = [row.view(shape[1:], *(found[n] for n in names))[None] for names in layers]
    else:
        pieces = [row.view(shape, *(found[name] for name in row.names()))]
    if any(piece.dtype.kind not in "fV" for piece in pieces):  # V: bfloat16
        raise ValueError(f"its dtype is {pieces[0].dtype}, expected floating point numbers")
    if row.ours == "vision/position":
        pieces = [_fit_positions(pieces[0], shape[0])]
    elif model.axes[row.ours][0] == "vocab":
        own = found.layout.name == OWN  # whose tokenizer is compared by its digest
        vocab = len(pieces[0]) if own else model.config.text.vocab
        pieces = fit_rows(pieces[0], shape[0], vocab)
    for piece in pieces:
        comes_to = [sum(map(len, pieces)), *piece.shape[1:]]
        if comes_to != list(shape):
            raise ValueError(f"it comes to {comes_to}")
    return pieces


def _fit_positions(positions: np.ndarray, tokens: int) -> np.ndarray:
    if len(positions) == tokens:
        return positions
    log.info("vision/position: %d positions resampled to %d", len(positions), tokens)
    return np.asarray(model_vit.resample_positions(positions.astype(np.float32), tokens))


def fit_rows(table: np.ndarray, rows: int, vocab: int) -> list[np.ndarray]:
    """A table [V, D] as one of `rows`, in pieces: rows beyond V are its mean, surplus ones go.

    The mean row makes a new token as likely as an average one. Raises ValueError where V and the
    `vocab` tokens of the tokenizer differ by more than OTHER_ROWS: they do not belong together.
    """
    if abs(len(table) - vocab) > OTHER_ROWS:
        raise ValueError(
            f"a table of {len(table)} rows is not that of a tokenizer with {vocab} pieces. Is "
            "--config.tokenizer.path the tokenizer of these weights?"
        )
    if len(table) >= rows:
        return [table[:rows]]
    log.info("a table of %d rows gets %d more, each its mean row", len(table), rows - len(table))
    mean = table.mean(0, dtype=np.float32)
    return [table, np.broadcast_to(mean, (rows - len(table), len(mean)))]


def some(names: Sequence[str]) -> str:
    """The first three of many names."""
    more = f" ... ({len(names)} in all)" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _part(path: str) -> str:
    return path.split("/")[0]
