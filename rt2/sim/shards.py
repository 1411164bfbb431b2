"""Web scenes as WebDataset shards: tar files in which KEY.jpg and KEY.json belong together."""

import io
import json
import pathlib
import tarfile

from rt2.sim import jpeg, web

SCENES_PER_SHARD = 1000
_SPLIT_CODES = {"train": 0, "validation": 1}


def scene(
    seed: int,
    split: str,
    index: int,
    image_size: int,
    descriptions: bool = False,
    objects: int = web.DEFAULT_OBJECTS,
) -> web.WebScene:
    """Returns scene `index` of a split ("train" or "validation")."""
    number = (seed, _SPLIT_CODES[split], index)
    return web.web_scene(number, image_size, descriptions=descriptions, objects=objects)


def write(
    path: pathlib.Path,
    seed: int,
    first: int,
    count: int,
    image_size: int,
    descriptions: bool,
    objects: int,
) -> None:
    """Writes `count` training scenes from number `first` on as one tar file of fixed bytes."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for index in range(first, first + count):
            made = scene(seed, "train", index, image_size, descriptions, objects)
            _add(tar, f"{index:08d}.jpg", jpeg.encode(made.image))
            _add(tar, f"{index:08d}.json", _record(made))


def _record(made: web.WebScene) -> bytes:
    record = {
        "qa": [row._asdict() for row in made.qa],
        "objects": [thing._asdict() for thing in made.objects],
    }
    return json.dumps(record, ensure_ascii=False).encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
