"""Parts of splits against TFDS's own arithmetic."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rt2.data import splits
from rt2.data.errors import DataError

BOUNDARY = st.one_of(
    st.just(""), st.integers(-100, 100).map("{}%".format), st.integers(-30, 30).map(str)
)


@given(begin=BOUNDARY, end=BOUNDARY, records=st.integers(1, 25))
def test_parts_are_those_of_tfds(begin, end, records):
    tfds = pytest.importorskip("tensorflow_datasets")
    assume(begin or end)  # "[:]" is the whole split here; TFDS refuses it
    template = tfds.core.ShardedFileTemplate(
        dataset_name="t", data_dir="/", split="train", filetype_suffix="tfrecord"
    )
    info = tfds.core.SplitInfo(
        name="train", shard_lengths=[records], num_bytes=1, filename_template=template
    )
    split = f"train[{begin}:{end}]"
    numbers = [abs(int(text)) for text in (begin, end) if text and not text.endswith("%")]
    try:
        (wanted,) = tfds.core.ReadInstruction.from_spec(split).to_absolute({"train": info})
        start, stop = wanted.from_ or 0, records if wanted.to is None else wanted.to
    except (AssertionError, ValueError):
        start = stop = 0
    mixed = begin and end and begin.endswith("%") != end.endswith("%")
    if mixed or start >= stop or max(numbers, default=0) > records:  # TFDS cuts what lies outside
        with pytest.raises(DataError):
            splits.bounds(split, records)
    else:
        assert splits.bounds(split, records) == (start, stop)


@pytest.mark.parametrize("split", ["train[", "train[:5%%]", "train[1:2:3]", "", "train[a:]"])
def test_other_forms_are_refused(split):
    with pytest.raises(DataError, match="expected a name such as"):
        splits.parse(split)
    assert splits.parse("train[:95%]") == ("train", ("", "95%"))
    assert splits.bounds("val", 7) == (0, 7)
