"""jsonl and LLaVA JSON, against the plain json module."""

import json
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt2.data import image
from rt2.data.errors import DataError
from rt2.data.vqa import WebExamples
from rt2.data.web.options import Options


def prefixed(number, prefix="caption en", suffix="a fox"):
    return {"image": f"{number}.jpg", "prefix": prefix, "suffix": suffix}


def said(*turns):
    names = ["human", "gpt"] * len(turns)
    pairs = zip(names, turns, strict=False)
    return [{"from": name, "value": turn} for name, turn in pairs]


def test_prefix_and_suffix_are_read_as_they_are(tmp_path, pictures, write, wire):
    rows = [prefixed(3), prefixed(0, "answer en what?", ["one", "two"]), prefixed(3, suffix="b")]
    path = write.lines(tmp_path / "train.jsonl", rows)
    examples = WebExamples(path, options=Options(images=str(pictures)))
    assert len(examples) == 3
    for i, row in enumerate(rows):
        found = examples[i]
        suffix = row["suffix"]
        assert found.question == row["prefix"]
        assert found.answers == (tuple(suffix) if isinstance(suffix, list) else (suffix,))
        data = (pictures / row["image"]).read_bytes()
        np.testing.assert_array_equal(found.image, image.decode(data))
        assert found.example_id == f"train/{i + 1}/0"
        assert examples.text(i) == (found.question, found.answers)
    assert pickle.loads(pickle.dumps(examples))[2].answers == ("b",)
    assert WebExamples(path, options=Options(images=str(pictures))).content_hash == (
        examples.content_hash
    )


@pytest.mark.parametrize("form", ["llava.json", "llava.jsonl"])
def test_every_turn_of_a_conversation_is_a_row(tmp_path, pictures, write, form):
    records = [
        {
            "id": "same",
            "image": "1.jpg",
            "conversations": said("<image>\nWhat is it?", "A fox.", "Where,\nthen?", "Left."),
        },
        {"id": "same", "image": "2.jpg", "conversations": said("Describe it.\n<image>", "Grass.")},
    ]
    writer = write.json if form.endswith("json") else write.lines
    examples = WebExamples(
        writer(tmp_path / form, records), options=Options(images=str(pictures), language="de")
    )
    assert [examples.text(i) for i in range(len(examples))] == [
        ("Answer in de : What is it?", ("A fox.",)),
        ("Answer in de : Where,\nthen?", ("Left.",)),
        ("Answer in de : Describe it.", ("Grass.",)),
    ]
    first = 0 if form.endswith("json") else 1
    ids = [examples[i].example_id for i in range(3)]
    assert ids == [f"llava/{first}/0", f"llava/{first}/1", f"llava/{first + 1}/0"]


def test_rows_without_an_image(tmp_path, pictures, write):
    rows = [prefixed(1), {"text": "once upon a time"}, {"conversations": said("Why?", "So.")}]
    path = write.lines(tmp_path / "mixed.jsonl", rows)
    with pytest.raises(DataError, match="line 2: has no image. Set text_only to drop, or to keep"):
        WebExamples(path, options=Options(images=str(pictures)))
    kept = WebExamples(path, options=Options(images=str(pictures), text_only="keep"))
    assert len(kept) == 3 and kept[0].image is not None
    assert (kept[1].kind, kept[1].image, kept[1].question) == ("text", None, "")
    assert kept[1].answers == ("once upon a time",)
    assert (kept[2].kind, kept[2].image) == ("vqa", None)
    dropped = WebExamples(path, options=Options(images=str(pictures), text_only="drop"))
    assert len(dropped) == 1 and dropped.dropped == {"rows without an image": 2}
    assert len({kept.content_hash, dropped.content_hash}) == 2


texts = st.text(min_size=1).filter(str.strip)
odd = st.sampled_from(
    ["a,b", 'say "x"', "a\nb", "a\u2028b", "é\u0301", "👩‍👩‍👧", "\x00", "a\r", "\\n"]
)


@settings(max_examples=60)
@given(st.lists(st.tuples(texts | odd, st.lists(texts | odd, min_size=1, max_size=4)), min_size=1))
def test_any_text_comes_back(wire, rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        (Path(folder) / "0.jpg").write_bytes(wire.jpeg(0))
        records = [prefixed(0, prefix, suffix) for prefix, suffix in rows]
        ascii_too = [json.dumps(r, ensure_ascii=i % 2 == 0) for i, r in enumerate(records)]
        path.write_bytes("\n".join(ascii_too).encode())
        examples = WebExamples(path)
        theirs = [json.loads(line) for line in path.read_bytes().split(b"\n")]
        assert len(examples) == len(theirs)
        for i, row in enumerate(theirs):
            kept = tuple(s for s in row["suffix"] if s.strip())
            assert examples.text(i) == (row["prefix"], kept)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"image": "0.jpg", "prefix": "a"', r"line 2: not JSON"),
        (
            '{"image": "0.jpg", "prefix": "a", "prefix": "b", "suffix": "c"}',
            "'prefix' stands twice",
        ),
        ('{"image": "0.jpg", "prefix": "a", "suffix": NaN}', "NaN is no JSON"),
        ('{"image": "0.jpg", "prefix": "a", "suffix": "\\ud800"}', "half of a surrogate"),
        ("[" * 100_000, "RecursionError"),
        ("[1]", "a list, expected an object"),
        (prefixed(0, suffix=""), "line 2: no answer but the empty one to 'caption en'"),
        (prefixed(0, suffix=[" ", ""]), "no answer but the empty one"),
        (prefixed(0, suffix=[]), "'suffix': no answer"),
        (prefixed(0, suffix=3), "not text"),
        (prefixed(0, prefix="  "), "'prefix' is missing, empty"),
        ({"image": "0.jpg", "prefix": "a"}, "'suffix': no answer"),
        ({"image": "0.jpg", "label": "a"}, r"has \['image', 'label'\], which is none of"),
        (prefixed(9), r"line 2: the image '9.jpg' cannot be read.*Check images="),
        ({**prefixed(0), "image": "../pictures/0.jpg"}, "lies outside"),
        ({**prefixed(0), "image": "a/../../0.jpg"}, "lies outside"),
        ({**prefixed(0), "image": "/etc/hostname"}, "lies outside"),
        ({**prefixed(0), "image": ["0.jpg", "1.jpg"]}, "rows of one named image"),
        ({**prefixed(0), "image": "bad.jpg"}, "line 2: bad.jpg: undecodable.*truncated"),
        ({**prefixed(0), "image": "cmyk.png"}, "4 channels"),
        ({"image": "0.jpg", "conversations": said("a")}, "pairs of a question and its answer"),
        ({"image": "0.jpg", "conversations": []}, "pairs of a question"),
        ({"image": "0.jpg", "conversations": said("<image><image>", "b")}, "2 times <image>"),
        ({"conversations": said("<image> a", "b")}, "1 times <image> in a conversation of no"),
        ({"image": "0.jpg", "conversations": said("<image>", "b")}, "a question is empty"),
        ({"image": "0.jpg", "conversations": [{"from": "human"}] * 2}, "without the texts"),
        (
            {"image": "0.jpg", "conversations": [{"from": "system", "value": "x"}] * 2},
            "a turn from 'system'",
        ),
    ],
)
def test_bad_lines_are_named(tmp_path, pictures, write, wire, line, words):
    import cv2

    (pictures / "bad.jpg").write_bytes(wire.jpeg(1)[:-9])
    alpha = cv2.imencode(".png", np.zeros((4, 4, 4), np.uint8))[1].tobytes()
    (pictures / "cmyk.png").write_bytes(alpha)
    path = write.lines(tmp_path / "rows.jsonl", [prefixed(0), line, prefixed(2)])
    with pytest.raises(DataError, match=words) as caught:
        WebExamples(path, options=Options(images=str(pictures)))
    assert "rows.jsonl" in str(caught.value)


def test_an_empty_file_and_a_file_that_is_no_utf8(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\n \n")
    with pytest.raises(DataError, match="a.jsonl: no row is left"):
        WebExamples(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_bytes(b'{"image": "\xff"}\n')
    with pytest.raises(DataError, match="line 1: not JSON .*UnicodeDecodeError"):
        WebExamples(tmp_path / "a.jsonl")


def test_splits_are_words_of_the_name(tmp_path, pictures, write):
    for name in ("train.jsonl", "x-val-0.jsonl", "training.jsonl"):
        write.lines(tmp_path / name, [prefixed(0, suffix=name)])
    options = Options(images=str(pictures))
    assert WebExamples(tmp_path, "train", options).text(0)[1] == ("train.jsonl",)
    assert WebExamples(tmp_path, "val", options).text(0)[1] == ("x-val-0.jsonl",)
    assert len(WebExamples(tmp_path, options=options)) == 3
    with pytest.raises(DataError, match=r"3 jsonls, none named \*-test-\*"):
        WebExamples(tmp_path, "test", options)
