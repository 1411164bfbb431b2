"""Image-text examples from tar shards and from a TFDS `vqa` set."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest

from rt2.data import image
from rt2.data.errors import DataError
from rt2.data.vqa import WebExamples


def question(kind="what", **changes):
    row = {"kind": kind, "language": "en", "question": f"Answer in en : {kind}", "answer": "a fox"}
    return row | changes


def write_tar(path, samples):
    """`samples`: (member name, bytes) in order."""
    with tarfile.open(path, "w") as tar:
        for name, data in samples:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def sample(wire, key, rows):
    data = json.dumps({"qa": rows, "objects": []}).encode()
    return [(f"{key}.jpg", wire.jpeg(int(key))), (f"{key}.json", data)]


@pytest.fixture
def tars(tmp_path, wire):
    two = [question("where", answer="12 30"), question("list", language="fr")]
    write_tar(tmp_path / "web-train-00000.tar", sample(wire, "01", two) + sample(wire, "02", two))
    answers = question(answers=["one", "two"])
    write_tar(tmp_path / "web-train-00001.tar", sample(wire, "01", [answers]))
    write_tar(tmp_path / "web-val-00000.tar", sample(wire, "09", [question("name")]))
    return tmp_path


def test_one_item_for_each_question(tars, wire):
    examples = WebExamples(tars, "train")
    assert len(examples) == 5 and len(WebExamples(tars)) == 6
    assert len(WebExamples(tars / "web-*-00000.tar")) == 5
    found = examples[3]
    np.testing.assert_array_equal(found.image, image.decode(wire.jpeg(2)))
    assert (found.kind, found.language, found.answers) == ("list", "fr", ("a fox",))
    assert found.question == "Answer in en : list"
    assert examples.text(3) == (found.question, found.answers)
    assert found.example_id == "web-train-00000/02/1"
    assert examples[4].answers == ("one", "two")
    assert len({examples[i].example_id for i in range(5)}) == 5
    assert pickle.loads(pickle.dumps(examples))[3].example_id == found.example_id
    with pytest.raises(IndexError):
        examples[5]


def test_no_such_split(tars):
    with pytest.raises(DataError, match=r"3 tars, none named \*-test-\*"):
        WebExamples(tars, "test")


def test_truncated_tars_are_refused(tars):
    path = tars / "web-train-00000.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        ends = [m.offset_data + -(-m.size // 512) * 512 for m in tar]
    for cut in [100, 700, ends[0], ends[0] + 512, ends[1], ends[2] - 3, ends[3]]:
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="web-train-00000.tar"):
            WebExamples(tars, "train")


def test_flipped_tar_headers_are_refused(tars):
    path = tars / "web-train-00000.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        offsets = [m.offset for m in tar]
    for offset in offsets:
        for byte in (0, 130, 150):
            damaged = bytearray(whole)
            damaged[offset + byte] ^= 2
            path.write_bytes(damaged)
            with pytest.raises(DataError, match="web-train-00000.tar"):
                WebExamples(tars, "train")


def test_image_bytes_that_change_after_indexing(tars):
    examples = WebExamples(tars, "train")
    path = tars / "web-train-00001.tar"
    data = bytearray(path.read_bytes())
    data[512 + 200] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="^web-train-00001/01/0: .*changed"):
        examples[4]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (lambda w: sample(w, "1", [question()])[:1], r"has \['jpg'\]"),
        (lambda w: sample(w, "1", [question()])[1:], r"has \['json'\]"),
        (lambda w: sample(w, "1", []), "'qa' is empty"),
        (lambda w: sample(w, "1", [question("wher")]), "kind 'wher': did you mean 'where'"),
        (lambda w: sample(w, "1", [{"kind": "what"}]), "lacks 'language'"),
        (lambda w: sample(w, "1", [question(answer=3)]), "not text"),
        (lambda w: sample(w, "1", [question()]) * 2, "stands twice"),
        (lambda w: [("1.jpg", w.jpeg(1)[:-9]), ("1.json", b"{}")], "JPEG is truncated"),
        (lambda w: [("1.jpg", w.jpeg(1)), ("1.json", b"{")], "not JSON"),
        (lambda w: [], "not a whole tar|holds no sample"),
    ],
)
def test_bad_samples_are_named(tmp_path, wire, members, words):
    write_tar(tmp_path / "web-train-00000.tar", members(wire))
    with pytest.raises(DataError, match=words) as caught:
        WebExamples(tmp_path)
    assert "web-train-00000.tar" in str(caught.value)


@pytest.fixture(scope="module")
def vqa(tmp_path_factory, store, wire):
    tfds = pytest.importorskip("tensorflow_datasets")
    f = tfds.features
    features = f.FeaturesDict(
        {
            "image": f.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "image/id": np.int64,
            "question_type": f.Text(),
            "question_text": f.Text(),
            "answer_type": f.Text(),
            "answers": f.Sequence(f.Text()),
            "answer_confidences": f.Sequence(f.ClassLabel(names=["no", "maybe", "yes"])),
            "top_answer": f.Text(),
        }
    )
    rows = [
        {
            "image": io.BytesIO(wire.jpeg(n)),
            "image/id": n,
            "question_type": "where" if n else "what color is the",
            "question_text": f"question {n}",
            "answer_type": "fr" if n else "other",
            "answers": [f"answer {n}"] * n + ["maybe", ""],
            "answer_confidences": ["yes"] * n + ["maybe", "no"],
            "top_answer": f"answer {n}",
        }
        for n in range(4)
    ]
    return tfds, store(features, {"validation": rows}, tmp_path_factory.mktemp("vqa"))


def test_a_tfds_vqa_set_equals_tfds(vqa, wire):
    tfds, directory = vqa
    examples = WebExamples(directory, "validation")
    decoders = {"image": tfds.decode.SkipDecoding()}
    theirs = tfds.builder_from_directory(directory).as_dataset("validation", decoders=decoders)
    for i, row in enumerate(theirs.as_numpy_iterator()):
        assert examples._rows.steps.encoded("image", i) == row["image"]
        public = row["question_type"] == b"what color is the"
        question = row["question_text"].decode()
        assert examples[i].question == (f"Answer in en : {question}" if public else question)
        assert examples[i].answers == tuple(a.decode() for a in row["answers"] if a)
        assert examples.text(i) == (examples[i].question, examples[i].answers)
        assert examples[i].kind == ("vqa" if public else "where")
        assert examples[i].language == ("en" if public else "fr")
    assert i == 3
    assert examples.dropped == {"empty answers beside others": 4}
    counted = [examples[i].counts for i in range(4)]
    assert {"answer 3": 3, "maybe": 1} in counted and {"maybe": 1} in counted


@pytest.mark.parametrize("answers", [[], [""], [" ", ""]])
def test_a_tfds_row_without_an_answer_is_refused(vqa, store, tmp_path, answers):
    tfds, _ = vqa
    f = tfds.features
    texts = {name: f.Text() for name in ("question_type", "question_text", "answer_type")}
    features = f.FeaturesDict(
        {"image": f.Image(encoding_format="png"), "answers": f.Sequence(f.Text()), **texts}
    )
    pixels = np.zeros((4, 4, 3), np.uint8)
    row = {"image": pixels, "question_type": "", "question_text": "q", "answer_type": "other"}
    rows = [row | {"answers": found} for found in (["yes"], answers, ["no"])]
    with pytest.raises(DataError, match="1 of 3 rows have no answer"):
        WebExamples(store(features, {"test": rows}, tmp_path), "test")


def test_a_tfds_set_needs_a_split(vqa):
    with pytest.raises(DataError, match="needs a split"):
        WebExamples(vqa[1])


def test_episodes_are_not_questions(tiny):
    with pytest.raises(DataError, match="rt2.data.robot"):
        WebExamples(tiny.write(), "train")
