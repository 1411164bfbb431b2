"""Writers of small image-text sets, with nothing but tarfile, json and array_record."""

import io
import json
import tarfile
import types

import pytest
from array_record.python import array_record_module


def write_tar(path, members):
    """`members`: (name, bytes) in order."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_lines(path, records):
    """A line for each record; text is written as it is."""
    lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records]
    path.write_text("".join(f"{line}\n" for line in lines), newline="")
    return path


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def write_records(path, records, options="group_size:1"):
    """An ArrayRecord file of serialised records."""
    writer = array_record_module.ArrayRecordWriter(str(path), options)
    for record in records:
        writer.write(record)
    writer.close()
    return path


@pytest.fixture(scope="session")
def write():
    """`write.tar`, `write.lines`, `write.json`, `write.records`."""
    return types.SimpleNamespace(
        tar=write_tar, lines=write_lines, json=write_json, records=write_records
    )


@pytest.fixture
def pictures(tmp_path, wire):
    """A folder of the images 0.jpg .. 5.jpg."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.jpg").write_bytes(wire.jpeg(number))
    return folder
