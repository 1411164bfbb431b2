import re

import numpy as np
import pytest

from rt2.sim import pictograms


def test_names_are_unique_and_speak_no_numbers():
    catalogue = pictograms.load()
    assert len(catalogue) > 1000
    for language in pictograms.LANGUAGES:
        names = catalogue.names[language]
        assert len(names) == len(set(names)) == len(catalogue)
        assert not [name for name in names if re.search(r"\d", name) or name != name.lower()]


def test_translations_belong_to_the_same_pictogram():
    catalogue = pictograms.load()
    assert catalogue.translate("strawberry", "es") == "fresa"
    assert catalogue.translate("hammer", "fr") == "marteau"
    assert catalogue.translate("frog", "de") == "frosch"


def test_every_pictogram_fills_its_square():
    for sprite in pictograms.load().sprites:
        rows, columns = np.nonzero(sprite[..., 3])
        assert max(np.ptp(rows), np.ptp(columns)) >= pictograms.MASTER_PX - 3
        assert abs(rows.min() + rows.max() + 1 - pictograms.MASTER_PX) <= 2
        assert abs(columns.min() + columns.max() + 1 - pictograms.MASTER_PX) <= 2


def test_colour_is_premultiplied():
    sprites = pictograms.load().sprites.astype(np.int16)
    assert (sprites[..., :3] - sprites[..., 3:]).max() <= 1


def test_a_sprite_has_its_colour_and_size():
    strawberry = pictograms.sprite("strawberry", 18)
    assert strawberry.shape == (18, 18, 4) and strawberry.dtype == np.uint8
    red, green, blue, _ = strawberry.reshape(-1, 4).mean(axis=0)
    assert red > 1.5 * green and red > 1.5 * blue


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(ValueError, match="strawberry"):
        pictograms.sprite("strawbery", 18)
    with pytest.raises(ValueError, match="en, es, fr, de"):
        pictograms.load().translate("hammer", "it")


def test_the_cache_gives_back_what_was_stored(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    loaded = pictograms.load()
    small = pictograms.Catalogue({k: v[:3] for k, v in loaded.names.items()}, loaded.sprites[:3])
    path = pictograms._cache_path()
    pictograms._write(path, small)
    again = pictograms.load.__wrapped__()
    assert again.names == small.names and (again.sprites == small.sprites).all()

    monkeypatch.setattr(pictograms, "_build", lambda: small)
    path.write_bytes(path.read_bytes()[:1000])
    assert pictograms.load.__wrapped__().names == small.names
    assert "cannot be read" in caplog.text
