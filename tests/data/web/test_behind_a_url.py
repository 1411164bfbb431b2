"""Image-text behind HTTP, and in a store that lists its folders, as it is on the disk."""

import json
import os
from pathlib import Path

import fsspec
import numpy as np
import pytest

from rt2.data import mixtures, remote
from rt2.data.errors import DataError
from rt2.data.vqa import WebExamples
from rt2.data.web.options import Options
from tests.data.range_server import RangeServer


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves tmp_path/far."""
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    (tmp_path / "far").mkdir()
    with RangeServer(tmp_path / "far") as running:
        yield running


def tars(folder, write, wire, count=2):
    """`count` tars web-train-0000N.tar of three captions each."""
    for shard in range(count):
        members = [
            (f"{n}.{suffix}", data)
            for n in range(3)
            for suffix, data in (
                ("jpg", wire.jpeg(10 * shard + n)),
                ("txt", f"fox {shard} {n}".encode()),
            )
        ]
        write.tar(folder / f"web-train-{shard:05d}.tar", members)
    return folder


def lines(folder, write, wire):
    (folder / "pictures").mkdir(parents=True)
    for n in range(3):
        (folder / "pictures" / f"{n}.jpg").write_bytes(wire.jpeg(n))
    rows = [{"image": f"pictures/{n}.jpg", "caption": f"fox {n}"} for n in range(3)]
    return write.lines(folder / "x.jsonl", rows)


def assert_equal(one, other):
    assert len(one) == len(other) > 2
    assert one.content_hash == other.content_hash
    for i in range(len(one)):
        ours, theirs = one[i], other[i]
        np.testing.assert_array_equal(ours.image, theirs.image)
        assert (ours.question, ours.answers, ours.example_id) == (
            theirs.question,
            theirs.answers,
            theirs.example_id,
        )


def test_tars_by_their_numbers(server, write, wire):
    folder = tars(server.root, write, wire)
    far = WebExamples(f"{server.url}/web-train-{{00000..00001}}.tar")
    assert_equal(far, WebExamples(folder))
    assert len(WebExamples(f"{server.url}/web-train-00001.tar")) == 3
    again = WebExamples(f"{server.url}/web-train-{{00000..00001}}.tar")
    server.requests.clear()
    again[4]
    ((method, path, span),) = server.requests  # one image, by its range
    assert (method, path) == ("GET", "/web-train-00001.tar") and span.startswith("bytes=")


def test_an_opened_index_asks_for_sizes_alone(server, write, wire):
    tars(server.root, write, wire)
    url = f"{server.url}/web-train-{{00000..00001}}.tar"
    WebExamples(url)
    server.requests.clear()
    WebExamples(url).text(3)
    assert {method for method, _, _ in server.requests} == {"HEAD"}


def test_jsonl_and_its_images(server, write, wire):
    path = lines(server.root / "set", write, wire)
    assert_equal(WebExamples(f"{server.url}/set/x.jsonl"), WebExamples(path))
    elsewhere = Options(images=f"{server.url}/set")
    assert len(WebExamples(path, options=elsewhere)) == 3
    (path.parent / "pictures" / "1.jpg").unlink()
    with pytest.raises(DataError, match="pictures/1.jpg: there is no such file"):
        WebExamples(f"{server.url}/set/x.jsonl")[1]


def test_llava_json(server, write, wire):
    folder = lines(server.root, write, wire).parent
    turns = [{"from": "human", "value": "what?"}, {"from": "gpt", "value": "a fox"}]
    rows = [{"image": f"pictures/{n}.jpg", "conversations": turns} for n in range(3)]
    path = write.json(folder / "chat.json", rows)
    assert_equal(WebExamples(f"{server.url}/chat.json"), WebExamples(path))


def test_a_tfds_set(server, store, wire):
    tfds = pytest.importorskip("tensorflow_datasets")
    f = tfds.features
    texts = {name: f.Text() for name in ("question_type", "question_text", "answer_type")}
    features = f.FeaturesDict(
        {"image": f.Image(encoding_format="png"), "answers": f.Sequence(f.Text()), **texts}
    )
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    row = {"image": pixels, "question_type": "", "answer_type": "other", "answers": ["yes"]}
    rows = [row | {"question_text": f"question {n}"} for n in range(3)]
    directory = Path(store(features, {"test": rows}, server.root))
    far = WebExamples(f"{server.url}/{directory.relative_to(server.root)}", "test")
    assert_equal(far, WebExamples(directory, "test"))


@pytest.mark.parametrize("kind", ["tar", "jsonl"])
def test_bytes_that_change_never_come_out(server, write, wire, kind):
    if kind == "tar":
        file = tars(server.root, write, wire, count=1) / "web-train-00000.tar"
        url = f"{server.url}/{file.name}"
    else:
        url = f"{server.url}/{lines(server.root, write, wire).name}"
        file = server.root / "pictures" / "0.jpg"
    examples = WebExamples(url)
    place = file.read_bytes().find(wire.jpeg(0)) + 200
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match="http://.*changed since the index was built"):
        examples[0]


def test_another_version_of_a_file_is_refused(server, write, wire):
    file = tars(server.root, write, wire, count=1) / "web-train-00000.tar"
    url = f"{server.url}/{file.name}"
    before = WebExamples(url).content_hash
    os.utime(file, ns=(1, 1))  # another ETag for the same bytes
    assert WebExamples(url).content_hash == before
    file.write_bytes(file.read_bytes().replace(b"fox 0 0", b"fox 0 9"))
    with pytest.raises(DataError, match="changed since its index was built"):
        WebExamples(url)


def test_errors_in_the_middle_are_tried_again(server, write, wire):
    folder = tars(server.root, write, wire)
    server.failures = [503, "drop", 500]
    assert_equal(WebExamples(f"{server.url}/web-train-{{00000..00001}}.tar"), WebExamples(folder))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nothing.tar", "is not there"),
        ("web-{00000..00003}.tar", "web-00000.tar: is not there .4 of 4 files"),
        ("folder", "is none"),
        ("*.tar", "folders cannot be listed over HTTP"),
        ("x.array_record", "ArrayRecord files .* are read from a disk alone"),
        ("questions.json", "read from a disk alone"),
    ],
)
def test_what_cannot_be_read(server, path, words):
    (server.root / "questions.json").write_text('{"questions": []}')
    with pytest.raises(DataError, match=words):
        WebExamples(f"{server.url}/{path}")


@pytest.fixture
def bucket(tmp_path, write, wire):
    """A store that can list: the tars in memory://web."""
    folder = tmp_path / "near"
    folder.mkdir()
    tars(folder, write, wire)
    fs = fsspec.filesystem("memory")
    for file in folder.glob("*.tar"):
        fs.pipe_file(f"/web/{file.name}", file.read_bytes())
    yield folder
    fs.rm("/web", recursive=True)


@pytest.mark.parametrize("path", ["memory://web", "memory://web/*.tar", "memory://web/"])
def test_folders_and_globs_where_they_can_be_listed(bucket, path):
    far = WebExamples(path)
    near = WebExamples(bucket)
    assert [far.text(i) for i in range(6)] == [near.text(i) for i in range(6)]
    np.testing.assert_array_equal(far[5].image, near[5].image)
    with pytest.raises(DataError, match="none named .*-val-"):
        WebExamples(path, "val")


ROW = {"robot": {"arm": 1.0}, "web": {"web": 1.0}, "robot_share": 0.5}
ROW |= {"by_size": False, "source": "this test"}


def test_a_mixture_over_http(server):
    for folder in ("arm/0.1.0", "web"):
        (server.root / folder).mkdir(parents=True)
        (server.root / folder / "dataset_info.json").write_text("{}")
    mixture = mixtures.from_config("mine", ROW)
    found = mixture.find(server.url, ())
    assert found == {"arm": f"{server.url}/arm/0.1.0", "web": f"{server.url}/web"}
    (server.root / "web" / "dataset_info.json").unlink()
    with pytest.raises(DataError, match="1 of 2 data sets .* not in http://.*: web"):
        mixture.find(server.url, ())


def test_a_mixture_in_a_store_that_lists():
    fs = fsspec.filesystem("memory")
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        fs.pipe_file(f"/oxe/arm/{version}/dataset_info.json", json.dumps({}).encode())
    fs.pipe_file("/oxe/web/00000.tar", b"")
    found = mixtures.from_config("mine", ROW).find("memory://oxe", ())
    fs.rm("/oxe", recursive=True)
    assert found == {"arm": "memory://oxe/arm/1.10.0", "web": "memory://oxe/web/*.tar"}
