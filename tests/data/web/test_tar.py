"""The common forms of WebDataset tars, against plain tarfile."""

import json
import tarfile

import numpy as np
import pytest

from rt2.data import image
from rt2.data.errors import DataError
from rt2.data.vqa import WebExamples
from rt2.data.web.options import Options


def encoded(value):
    return json.dumps(value).encode()


def test_captions_classes_and_json(tmp_path, write, wire):
    (tmp_path / "classnames.txt").write_text("tench\ngoldfish\n")
    members = [
        ("a/1.jpg", wire.jpeg(1)),
        ("a/1.txt", " a fox, ünïcode\nin two lines\n".encode()),
        ("a/2.jpeg", wire.jpeg(2)),
        ("a/2.json", encoded({"caption": "a dog", "url": "x", "key": "2", "width": 16})),
        ("a/2.txt", b"a dog"),
        ("b/1.JPG", wire.jpeg(3)),
        ("b/1.json", encoded({"question": "what?", "answers": ["one", "two", "one"]})),
        ("b/2.jpg", wire.jpeg(4)),
        ("b/2.cls", b"1\n"),
        ("b/3.jpg", wire.jpeg(5)),
        ("b/3.cls", b"black swan"),
        ("b/4.jpg", wire.jpeg(6)),
        ("b/4.json", encoded({"url": "y"})),
        ("b/4.txt", b"the json has no caption"),
        ("b/5.jpg", wire.jpeg(7)),
        ("b/5.json", encoded({"captions": ["one", "two"], "language": "fr"})),
        ("b/5.seg.npy", b"left alone"),
    ]
    path = write.tar(tmp_path / "x.tar", members)
    examples = WebExamples(path)
    assert [(e.kind, e.question, e.answers) for e in map(examples.__getitem__, range(7))] == [
        ("caption", "Generate caption in en", ("a fox, ünïcode\nin two lines",)),
        ("caption", "Generate caption in en", ("a dog",)),
        ("vqa", "Answer in en : what?", ("one", "two", "one")),
        ("name", "Answer in en : what is this", ("goldfish",)),
        ("name", "Answer in en : what is this", ("black swan",)),
        ("caption", "Generate caption in en", ("the json has no caption",)),
        ("caption", "Generate caption in fr", ("one", "two")),
    ]
    with tarfile.open(path) as tar:
        stored = [
            tar.extractfile(m).read() for m in tar if m.name.lower().endswith(("jpg", "jpeg"))
        ]
    for i, data in enumerate(stored):
        np.testing.assert_array_equal(examples[i].image, image.decode(data))
    assert examples[0].example_id == "x/a/1/0"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_in_every_tar_format(tmp_path, wire, form):
    import io

    name = "/".join(["d" * 60] * 2) + "/" + "k" * 40
    with tarfile.open(tmp_path / "x.tar", "w", format=form) as tar:
        for suffix, data in (("jpg", wire.jpeg(1)), ("txt", b"a fox")):
            info = tarfile.TarInfo(f"{name}.{suffix}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    found = WebExamples(tmp_path)[0]
    assert found.example_id == f"x/{name}/0" and found.answers == ("a fox",)


def test_text_alone(tmp_path, write, wire):
    members = [("1.txt", b"once upon a time"), ("2.jpg", wire.jpeg(1)), ("2.txt", b"a fox")]
    path = write.tar(tmp_path / "x.tar", members)
    with pytest.raises(DataError, match=r"sample '1': has \['txt'\]"):
        WebExamples(path)
    kept = WebExamples(path, options=Options(text_only="keep"))
    assert [kept[i].kind for i in range(2)] == ["text", "caption"] and kept[0].image is None


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (lambda w: [("1.jpg", w.jpeg(1)), ("1.txt", b" \n")], "no answer but the empty one"),
        (lambda w: [("1.jpg", w.jpeg(1)), ("1.txt", b"\xff")], "txt is no UTF-8"),
        (lambda w: [("1.jpg", w.jpeg(1)), ("1.cls", b"7")], "class 7 has no name.*classnames.txt"),
        (lambda w: [("1.jpg", w.jpeg(1)), ("1.png", w.jpeg(1)), ("1.txt", b"a")], "has .*jpg"),
        (lambda w: [("1.webp", b"RIFF"), ("1.txt", b"a")], "neither JPEG, PNG nor WebP"),
        (lambda w: [("1.jpg", w.jpeg(1)), ("1.jpg", w.jpeg(1))], "1.jpg stands twice"),
        (
            lambda w: [("1.jpg", w.jpeg(1)), ("1.txt", b"a"), ("1.json", b'{"caption": "b"}')],
            "txt and its json say different things",
        ),
        (
            lambda w: (
                [("1.jpg", w.jpeg(1)), ("1.txt", b"a"), ("2.jpg", w.jpeg(1)), ("2.txt", b"a")]
                + [("1.cls", b"a")]
            ),
            "1.cls stands twice|has",
        ),
        (
            lambda w: [("1.jpg", w.jpeg(1)), ("1.json", b'{"caption": "a", "caption": "b"}')],
            "'caption' stands twice",
        ),
    ],
)
def test_bad_samples_are_named(tmp_path, write, wire, members, words):
    write.tar(tmp_path / "x.tar", members(wire))
    with pytest.raises(DataError, match=words) as caught:
        WebExamples(tmp_path)
    assert "x.tar" in str(caught.value)


def test_a_class_beyond_the_names(tmp_path, write, wire):
    (tmp_path / "classnames.txt").write_text("tench\n")
    write.tar(tmp_path / "x.tar", [("1.jpg", wire.jpeg(1)), ("1.cls", b"1")])
    with pytest.raises(DataError, match="class 1, .*classnames.txt has 1 lines"):
        WebExamples(tmp_path)
