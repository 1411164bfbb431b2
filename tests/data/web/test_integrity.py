"""No damage after indexing reaches a batch: bit flips, cuts, and changes of the index itself."""

import collections
import os
import shutil

import numpy as np
import pytest

from rt2.data.errors import DataError
from rt2.data.vqa import WebExamples
from rt2.data.web.options import Options

KINDS = ("tar", "jsonl", "array_record")
SEEN, HARMLESS = "refused", "harmless"


def caption(number):
    return f"a fox, number {number}\nand ünïcode"


@pytest.fixture
def sets(tmp_path, write, wire):
    """`sets(kind)` -> (opens it, the files that hold its bytes): five rows, an image each."""

    def make(kind):
        folder = tmp_path / kind
        folder.mkdir()
        if kind == "tar":
            members = [
                (f"{n}.{suffix}", data)
                for n in range(5)
                for suffix, data in (("jpg", wire.jpeg(n)), ("txt", caption(n).encode()))
            ]
            files = [write.tar(folder / "x.tar", members)]
        elif kind == "array_record":
            records = [
                wire.example(
                    {
                        "image": ("bytes", [wire.jpeg(n)]),
                        "caption": ("bytes", [caption(n).encode()]),
                    }
                )
                for n in range(5)
            ]
            files = [write.records(folder / "x.array_record", records, "group_size:1,uncompressed")]
        else:
            rows = [{"image": f"{n}.jpg", "caption": caption(n)} for n in range(5)]
            files = [write.lines(folder / "x.jsonl", rows)]
            for n in range(5):
                files.append(folder / f"{n}.jpg")
                files[-1].write_bytes(wire.jpeg(n))
        return lambda: WebExamples(folder), files

    return make


def contents(examples):
    rows = [examples[i] for i in range(len(examples))]
    return [(r.image.tobytes(), r.question, r.answers, r.example_id) for r in rows]


def flip(path, bit):
    """Flips one bit; size and modification time stay, as with a fault of the disk."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def fate(open_set, path, bit, touched):
    """What becomes of a flip; a wrong row fails the test. The file is put back."""
    whole, times = path.read_bytes(), path.stat()
    expected = contents(open_set())
    flip(path, bit)
    if touched:
        os.utime(path)
    try:
        found = contents(open_set())
    except DataError:
        outcome = SEEN
    else:
        assert found == expected, f"bit {bit} of {path.name} reached a row"
        outcome = HARMLESS
    path.write_bytes(whole)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return outcome


def flips(sets, kind, count, touched, seed=0):
    """Outcomes of `count` flips over all bytes of the files, each file in proportion."""
    open_set, files = sets(kind)
    open_set()
    sizes = [file.stat().st_size * 8 for file in files]
    rng = np.random.default_rng(seed)
    outcomes = collections.Counter()
    for place in rng.choice(sum(sizes), count, replace=False):
        number = int(np.searchsorted(np.cumsum(sizes), place, side="right"))
        bit = int(place - sum(sizes[:number]))
        outcomes[fate(open_set, files[number], bit, touched)] += 1
    return outcomes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("touched", [True, False])
def test_no_flip_after_indexing_reaches_a_row(sets, kind, touched):
    """With the time of writing: every flip is refused. Without: those of images; no other counts.

    A wrong row fails in `fate`.
    """
    outcomes = flips(sets, kind, 25, touched)
    assert sum(outcomes.values()) == 25
    if touched:
        assert outcomes[SEEN] == 25


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("touched", [True, False])
def test_no_flip_of_a_thousand_reaches_a_row(sets, kind, touched):
    outcomes = flips(sets, kind, 1000, touched)
    print(f"\n{kind}, {'new' if touched else 'same'} modification time: {dict(outcomes)}")
    assert sum(outcomes.values()) == 1000
    assert outcomes[SEEN] == 1000 if touched else outcomes[SEEN] > 0


@pytest.mark.parametrize("kind", ["tar", "jsonl"])
def test_before_the_first_index_what_breaks_nothing_cannot_be_known(sets, kind, wire):
    """The limit of formats without checksums, as `rt2.data.web.index` states it."""
    open_set, files = sets(kind)
    whole = files[0].read_bytes()
    start = whole.find(b"fox, number 3")
    flip(files[0], 8 * start)  # "gox"
    assert open_set()[3].answers == ("a gox, number 3\nand ünïcode",)
    shutil.rmtree(files[0].parent / "rt2_index")
    files[0].write_bytes(whole)
    image = files[0] if kind == "tar" else files[4]
    start = image.read_bytes().find(wire.jpeg(3))
    broken = [(image, 8 * start + 8), (files[0], 0 if kind == "jsonl" else 8 * 130)]
    for file, bit in broken:  # a marker of the image; the brace of a line, a size of the tar
        flip(file, bit)
        with pytest.raises(DataError):
            open_set()
        flip(file, bit)
    assert len(open_set()) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_of_an_image_counts(sets, kind, wire):
    open_set, files = sets(kind)
    opened = open_set()
    data = wire.jpeg(3)
    path = files[4] if kind == "jsonl" else files[0]
    start = path.read_bytes().find(data)
    for bit in range(8 * start, 8 * (start + len(data)), 401):
        flip(path, bit)
        with pytest.raises(DataError, match="x/3|x/4"):
            for i in range(5):
                opened[i]
        flip(path, bit)
    opened[3]


@pytest.mark.parametrize("kind", KINDS)
def test_another_whole_file_with_the_same_stamp_gives_no_image(sets, kind, write, wire):
    open_set, files = sets(kind)
    opened = open_set()
    times, size = files[0].stat(), files[0].stat().st_size
    if kind == "array_record":
        images = [bytearray(wire.jpeg(n)) for n in range(5)]
        for data in images:
            data[-40] ^= 1  # of the length that the index says, and still an image
        records = [wire.example({"image": ("bytes", [bytes(data)])}) for data in images]
        write.records(files[0], records, "group_size:1,uncompressed")
    elif kind == "tar":
        data = files[0].read_bytes()
        for n in range(5):
            data = data.replace(wire.jpeg(n), wire.jpeg(n)[::-1])
        files[0].write_bytes(data)
    else:
        for n in range(5):
            files[1 + n].write_bytes(wire.jpeg(9))
    assert files[0].stat().st_size == size
    os.utime(files[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    for examples in (opened, open_set()):
        for i in range(5):
            with pytest.raises(DataError, match=f"^x/{i + (kind == 'jsonl')}/0: "):
                examples[i]


def test_a_touched_file_is_digested_once_and_accepted(sets, monkeypatch):
    from rt2.data.web import index

    open_set, files = sets("tar")
    before = open_set().content_hash
    os.utime(files[0])
    digested = []
    digest = index._digest
    monkeypatch.setattr(index, "_digest", lambda file: digested.append(file) or digest(file))
    assert open_set().content_hash == before and len(digested) == 1
    open_set()
    assert len(digested) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_size_is_refused_and_accepted_without_the_index(sets, kind, write):
    open_set, files = sets(kind)
    open_set()
    before = files[0].read_bytes()
    if kind == "jsonl":
        files[0].write_bytes(b"".join(before.splitlines(keepends=True)[:3]))  # cut between lines
    else:
        files[0].write_bytes(before + bytes(10240))
    with pytest.raises(DataError, match=f"{files[0].name}: changed since .*delete .*rt2_index"):
        open_set()
    shutil.rmtree(files[0].parent / "rt2_index")
    if kind == "jsonl":
        assert len(open_set()) == 3
    files[0].write_bytes(before)


@pytest.mark.parametrize("part", ["column", "index.json", "gone"])
def test_a_damaged_index_is_refused(sets, part):
    open_set, files = sets("tar")
    opened = open_set()
    folder = opened._rows.index.path
    columns = opened._rows.index.meta["columns"]
    if part == "column":
        for name, entry in columns.items():
            path = folder / entry["file"]
            size = path.stat().st_size
            for byte in {0, 9, size - 1}:
                flip(path, byte * 8)
                with pytest.raises(DataError, match="the index is damaged. Delete it"):
                    open_set()
                flip(path, byte * 8)
            assert contents(open_set()) == contents(opened), name
    elif part == "gone":
        (folder / columns["row.kind"]["file"]).unlink()
        with pytest.raises(DataError, match="the index is damaged"):
            open_set()
    else:
        (folder / "index.json").write_text("{")
        with pytest.raises(DataError, match="the index is damaged"):
            open_set()


def test_a_missing_stamp_means_a_new_digest(sets):
    open_set, files = sets("tar")
    (folder,) = {open_set()._rows.index.path}
    (folder / "stamps.json").write_text("damaged")
    flip(files[0], 8)
    with pytest.raises(DataError, match="changed since its index was built"):
        open_set()


def test_an_image_that_goes_or_is_cut_after_indexing_is_named(sets):
    open_set, files = sets("jsonl")
    opened = open_set()
    files[2].write_bytes(files[2].read_bytes()[:50])
    files[3].unlink()
    with pytest.raises(DataError, match="^x/2/0: .*1.jpg at byte 0: .*cut to 50"):
        opened[1]
    with pytest.raises(DataError, match="^x/3/0: .*2.jpg cannot be read"):
        opened[2]
    opened[0]


def test_options_have_indexes_of_their_own(sets):
    open_set, files = sets("tar")
    english = open_set()
    folder = files[0].parent
    french = WebExamples(folder, options=Options(language="fr"))
    assert french.text(0)[0] == "Generate caption in fr"
    assert open_set().text(0)[0] == "Generate caption in en"
    assert french.content_hash != english.content_hash


def test_the_content_hash_is_that_of_the_data_not_of_the_place(sets, tmp_path):
    open_set, files = sets("jsonl")
    moved = tmp_path / "moved"
    shutil.copytree(files[0].parent, moved, ignore=shutil.ignore_patterns("rt2_index"))
    assert WebExamples(moved).content_hash == open_set().content_hash
