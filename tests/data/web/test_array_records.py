"""ArrayRecord files, against the module that writes them and TensorFlow's tf.train.Example."""

import concurrent.futures
import functools
import os

import numpy as np
import pytest

from rt2.data import image
from rt2.data.errors import DataError
from rt2.data.vqa import WebExamples
from rt2.data.web.options import Options


def example(wire, **features):
    """A serialised Example of lists of bytes; texts are encoded."""
    as_bytes = {
        name: [v.encode() if isinstance(v, str) else v for v in values]
        for name, values in features.items()
    }
    return wire.example({name: ("bytes", values) for name, values in as_bytes.items()})


@pytest.fixture
def files(tmp_path, write, wire):
    for shard in range(2):
        records = [
            example(wire, image=[wire.jpeg(10 * shard + n)], question=[f"q{n}"], answers=["ä", "b"])
            for n in range(3)
        ]
        records.append(example(wire, image=[wire.jpeg(shard)], caption=["a,\nb"], language=["fr"]))
        write.records(tmp_path / f"set-train.array_record-{shard:05d}-of-00002", records)
    return tmp_path


def test_records_are_rows(files, wire):
    examples = WebExamples(files, "train")
    assert len(examples) == 8
    assert examples[6].question == "Answer in en : q2" and examples[6].answers == ("ä", "b")
    np.testing.assert_array_equal(examples[6].image, image.decode(wire.jpeg(12)))
    assert examples.text(3) == ("Generate caption in fr", ("a,\nb",))
    assert examples[3].example_id == "set-train/3/0"
    assert examples[7].image is not None


def _pixels(examples, i):
    return examples[i].image.tobytes()


def test_threads_and_forks_read_the_same(files):
    examples = WebExamples(files)
    expected = [_pixels(WebExamples(files), i) for i in range(8)]
    numbers = [i % 8 for i in range(400)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(functools.partial(_pixels, examples), numbers))
    assert found == [expected[i] for i in numbers]
    read, write = os.pipe()
    if not (child := os.fork()):
        same = [_pixels(examples, i) for i in range(8)] == expected
        os.write(write, b"same" if same else b"other")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 5) == b"same"
    os.close(read)
    os.close(write)


def test_records_of_tensorflow(tmp_path, write, wire):
    tf = pytest.importorskip("tensorflow")

    def feature(*values):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    features = {"image": feature(wire.jpeg(5)), "prefix": feature("où".encode())}
    features |= {"suffix": feature(b"here"), "captions": feature()}
    record = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    write.records(tmp_path / "x.array_record", [record], options="group_size:1,uncompressed")
    found = WebExamples(tmp_path / "x.array_record")[0]
    assert (found.question, found.answers) == ("où", ("here",))
    np.testing.assert_array_equal(found.image, image.decode(wire.jpeg(5)))


def test_text_alone(tmp_path, write, wire):
    write.records(tmp_path / "x.array_record", [example(wire, text=["once"])])
    with pytest.raises(DataError, match="record 0: has no image"):
        WebExamples(tmp_path)
    assert WebExamples(tmp_path, options=Options(text_only="keep"))[0].image is None


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (lambda w: b"\x99rubbish", "record 1: not a tf.train.Example"),
        (lambda w: example(w, image=[w.jpeg(1)], qestion=["a"], answer=["b"]), "mean 'question'"),
        (lambda w: example(w, image=[w.jpeg(1)] * 2, caption=["b"]), "image: 2 values"),
        (lambda w: example(w, image=[w.jpeg(1)[:-9]], caption=["b"]), "JPEG is truncated"),
        (lambda w: example(w, image=[w.jpeg(1)], caption=[b"\xff"]), "caption: no UTF-8"),
        (lambda w: example(w, image=[w.jpeg(1)], question=["a"]), "'answer': no answer"),
        (lambda w: w.example({"caption": ("int64", [3])}), "a list of int64, expected bytes"),
    ],
)
def test_bad_records_are_named(tmp_path, write, wire, record, words):
    good = example(wire, image=[wire.jpeg(1)], caption=["a"])
    write.records(tmp_path / "x.array_record", [good, record(wire)])
    with pytest.raises(DataError, match=words) as caught:
        WebExamples(tmp_path)
    assert "x.array_record" in str(caught.value)


def test_cut_files_are_refused_even_at_a_block(tmp_path, write, wire):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, 20_000, np.uint8).tobytes() for _ in range(20)]
    records = [example(wire, image=[wire.jpeg(1) + n], caption=["a"]) for n in noise]
    path = write.records(tmp_path / "x.array_record", records)
    whole = path.read_bytes()
    blocks = range(0, len(whole), 1 << 16)
    assert len(blocks) > 5 and len(WebExamples(tmp_path)) == 20
    (index,) = (tmp_path / "rt2_index").iterdir()
    for fresh in (False, True):
        if fresh:
            index.rename(tmp_path / "aside")
        for cut in [*blocks, 100, len(whole) - 1, len(whole) // 2]:
            path.write_bytes(whole[:cut])
            at_block = fresh and cut in blocks[1:]
            words = "x.array_record: " + ("holds no record" if at_block else "")
            with pytest.raises(DataError, match=words):
                WebExamples(tmp_path)
