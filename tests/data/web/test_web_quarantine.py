"""Damaged image-text samples: named and refused, or left out by choice, counted and bounded."""

import json

import pytest

from configs import common
from rt2.data.errors import DataError
from rt2.data.vqa import WebExamples
from rt2.train.sources import open_sources

HALF = 0.5
COUNT = 6
DAMAGED = 2  # the number of the sample that is


def records(wire):
    """(image bytes, caption) of every sample."""
    return [(wire.jpeg(n), f"a fox, number {n}") for n in range(COUNT)]


def write_tar(folder, write, samples):
    members = [
        (f"{n}.{suffix}", data)
        for n, (image, text) in enumerate(samples)
        for suffix, data in (("jpg", image), ("txt", text.encode()))
    ]
    return write.tar(folder / "x.tar", members)


def write_lines(folder, write, samples):
    for n, (image, _) in enumerate(samples):
        (folder / f"{n}.jpg").write_bytes(image)
    rows = [{"image": f"{n}.jpg", "caption": text} for n, (_, text) in enumerate(samples)]
    return write.lines(folder / "x.jsonl", rows)


def write_list(folder, write, samples):
    for n, (image, _) in enumerate(samples):
        (folder / f"{n}.jpg").write_bytes(image)
    turns = [[{"from": "human", "value": "what?"}, {"from": "gpt", "value": t}] for _, t in samples]
    rows = [{"image": f"{n}.jpg", "conversations": said} for n, said in enumerate(turns)]
    return write.json(folder / "x.json", rows)


def write_records(folder, write, samples, wire):
    made = [
        wire.example({"image": ("bytes", [i]), "caption": ("bytes", [t.encode()])})
        for i, t in samples
    ]
    return write.records(folder / "x.array_record", made)


def write_captions(folder, write, samples):
    for n, (image, _) in enumerate(samples):
        (folder / f"{n}.jpg").write_bytes(image)
    tree = {
        "images": [{"id": n, "file_name": f"{n}.jpg"} for n in range(len(samples))],
        "annotations": [{"id": n, "image_id": n, "caption": t} for n, (_, t) in enumerate(samples)],
    }
    return write.json(folder / "captions_x.json", tree)


@pytest.fixture(params=["tar", "jsonl", "llava", "array_record", "captions"])
def made(request, tmp_path, write, wire):
    """`made(samples)` writes a set of the format and returns its path."""
    writers = {
        "tar": write_tar,
        "jsonl": write_lines,
        "llava": write_list,
        "array_record": lambda folder, write, samples: write_records(folder, write, samples, wire),
        "captions": write_captions,
    }
    return lambda samples: writers[request.param](tmp_path, write, samples)


@pytest.mark.parametrize("what", ["image", "text"])
def test_one_sample_is_left_out(made, wire, what):
    samples = records(wire)
    image, text = samples[DAMAGED]
    samples[DAMAGED] = (image[:-20], text) if what == "image" else (image, " ")
    path = made(samples)
    with pytest.raises(DataError, match="truncated" if what == "image" else "no answer"):
        WebExamples(path)
    examples = WebExamples(path, quarantine=HALF)
    (named,) = examples.quarantined
    assert path.name in named and ("truncated" if what == "image" else "no answer") in named
    kept = [n for n in range(COUNT) if n != DAMAGED]
    assert [examples[i].answers[0] for i in range(len(examples))] == [samples[n][1] for n in kept]
    for i in range(len(examples)):
        assert examples[i].image.shape == (16, 16, 3)
    with pytest.raises(DataError):  # an index with a gap is not taken where none is allowed
        WebExamples(path)


def test_above_the_bound_all_is_refused_and_nothing_is_written(made, wire):
    samples = records(wire)
    for n in (1, 4):
        samples[n] = samples[n][0][:40], samples[n][1]
    path = made(samples)
    words = "2 of 6 samples are damaged, the quarantine allows a share of 0.3. .*; "
    with pytest.raises(DataError, match=words):
        WebExamples(path, quarantine=0.3)
    assert not (path.parent / "rt2_index").exists()
    assert len(WebExamples(path, quarantine=0.34)) == 4


def test_a_whole_set_has_nothing_to_leave_out(made, wire):
    path = made(records(wire))
    loose, strict = WebExamples(path, quarantine=HALF), WebExamples(path)
    assert loose.quarantined == [] and len(loose) == COUNT
    assert loose.content_hash == strict.content_hash


def test_a_missing_image_is_left_out_until_it_is_there(tmp_path, write, wire):
    path = write_lines(tmp_path, write, records(wire))
    image = (tmp_path / "3.jpg").read_bytes()
    (tmp_path / "3.jpg").unlink()
    gone = WebExamples(path, quarantine=HALF)
    assert len(gone) == COUNT - 1 and "3.jpg" in gone.quarantined[0]
    (tmp_path / "3.jpg").write_bytes(image)
    assert len(WebExamples(path)) == COUNT


def test_lines_that_are_no_json(tmp_path, write, wire):
    path = write_lines(tmp_path, write, records(wire))
    path.write_bytes(path.read_bytes().replace(b'{"image": "2.jpg"', b'{"image: "2.jpg"'))
    with pytest.raises(DataError, match="line 3: not JSON"):
        WebExamples(path)
    examples = WebExamples(path, quarantine=HALF)
    assert len(examples) == COUNT - 1 and "line 3: not JSON" in examples.quarantined[0]


def test_a_file_that_is_not_whole_is_never_quarantined(tmp_path, write, wire):
    path = write_tar(tmp_path, write, records(wire))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match="truncated|not a whole tar"):
        WebExamples(path, quarantine=1.0)


def test_the_source_of_a_config_says_it(tmp_path, write, wire, caplog):
    samples = records(wire)
    samples[DAMAGED] = samples[DAMAGED][0][:40], "cut"
    config = common.get_config()
    config.sources.web = common.source(
        "web", str(write_lines(tmp_path, write, samples)), split="", spec="", share=1.0
    )
    with pytest.raises(DataError, match="truncated|cut off"):
        open_sources(config, "sources")
    config.sources.web.quarantine = 0.2
    assert len(open_sources(config, "sources")["web"].examples) == COUNT - 1
    assert "web: quarantined: " in caplog.text and "line 3" in caplog.text


def test_the_list_stands_in_the_index(tmp_path, write, wire):
    samples = records(wire)
    samples[DAMAGED] = samples[DAMAGED][0][:40], "cut"
    examples = WebExamples(write_tar(tmp_path, write, samples), quarantine=HALF)
    meta = json.loads((examples._rows.index.path / "index.json").read_text())
    assert meta["quarantined"] == examples.quarantined


def test_a_sample_is_left_out_as_a_whole(tmp_path, write, wire):
    """Two questions about one image, the second without an answer: neither is kept."""

    def asked(n, second):
        (tmp_path / f"{n}.jpg").write_bytes(wire.jpeg(n))
        row = {"kind": "vqa", "language": "en", "question": f"what is {n}?"}
        return {"image": f"{n}.jpg", "qa": [row | {"answer": "a"}, row | {"answer": second}]}

    path = write.lines(tmp_path / "x.jsonl", [asked(0, "b"), asked(1, " "), asked(2, "c")])
    examples = WebExamples(path, quarantine=HALF)
    ids = [examples[i].example_id for i in range(len(examples))]
    assert ids == ["x/1/0", "x/1/1", "x/3/0", "x/3/1"]
    assert len(examples._rows.index.column("sample.key")) == 2
