"""Which format stands at a path."""

import cv2
import numpy as np
import pytest

from rt2.data.errors import DataError
from rt2.data.vqa import FORMATS, WebExamples
from rt2.data.web.options import Options


def test_an_error_lists_what_can_be_read(tmp_path):
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "x.parquet"):
        with pytest.raises(DataError, match="what can be read") as caught:
            WebExamples(path)
        assert all(f"  {name} " in str(caught.value) for name in FORMATS)


def test_two_formats_in_one_folder_need_a_choice(tmp_path, write, wire):
    (tmp_path / "0.jpg").write_bytes(wire.jpeg(0))
    write.lines(tmp_path / "a.jsonl", [{"image": "0.jpg", "caption": "from jsonl"}])
    write.tar(tmp_path / "a.tar", [("1.jpg", wire.jpeg(1)), ("1.txt", b"from tar")])
    with pytest.raises(DataError, match="holds files of jsonl, tar; name a file or a glob"):
        WebExamples(tmp_path)
    for kind in ("jsonl", "tar"):
        chosen = WebExamples(tmp_path, options=Options(format=kind))
        assert chosen.text(0)[1] == (f"from {kind}",)
    assert WebExamples(tmp_path / "*.tar").text(0)[1] == ("from tar",)
    with pytest.raises(DataError, match="format='tarr': did you mean 'tar'"):
        WebExamples(tmp_path, options=Options(format="tarr"))


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"a": 1}, r"has \['a'\]; expected questions, or images and annotations with caption"),
        ({"images": [], "annotations": []}, "expected questions"),
        ({"questions": []}, "the first question: without 'image_id'"),
        ("text", "expected questions"),
    ],
)
def test_a_json_file_of_another_form(tmp_path, write, tree, words):
    with pytest.raises(DataError, match=words):
        WebExamples(write.json(tmp_path / "a.json", tree))


PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
WEBP = cv2.imencode(".webp", PIXELS[..., ::-1], (cv2.IMWRITE_WEBP_QUALITY, 101))[1].tobytes()


def webp_set(kind, folder, write, wire, data):
    if kind == "tar":
        return write.tar(folder / "x.tar", [("0.webp", data), ("0.txt", b"a fox")])
    if kind == "array_record":
        record = wire.example({"image": ("bytes", [data]), "caption": ("bytes", [b"a fox"])})
        return write.records(folder / "x.array_record", [record])
    (folder / "0.webp").write_bytes(data)
    return write.lines(folder / "x.jsonl", [{"image": "0.webp", "caption": "a fox"}])


@pytest.mark.parametrize("kind", ["tar", "jsonl", "array_record"])
def test_webp_images_are_read_checked_and_refused(tmp_path, write, wire, kind):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    examples = WebExamples(webp_set(kind, whole, write, wire, WEBP))
    np.testing.assert_array_equal(examples[0].image, PIXELS)
    with pytest.raises(DataError, match="the WebP is truncated"):
        WebExamples(webp_set(kind, cut, write, wire, WEBP[:-8]))
    if kind == "jsonl":
        (whole / "0.webp").write_bytes(WEBP[:200] + bytes([WEBP[200] ^ 1]) + WEBP[201:])
        with pytest.raises(DataError, match="changed since the index was built"):
            examples[0]


def test_a_json_file_is_named_and_has_the_form_that_is_asked_for(tmp_path, write, wire):
    (tmp_path / "0.jpg").write_bytes(wire.jpeg(0))
    tree = {
        "images": [{"id": 1, "file_name": "0.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "caption": "a"}],
    }
    path = write.json(tmp_path / "captions.json", tree)
    assert len(WebExamples(path)) == 1
    with pytest.raises(DataError, match="name a file"):
        WebExamples(tmp_path)
    with pytest.raises(DataError, match="in the form of captions, not of boxes"):
        WebExamples(path, options=Options(format="boxes"))
