"""Feature trees of every kind, written by TFDS: read as TFDS reads them, and as they were given.

TFDS cannot read some of what it writes (two varying axes inside steps, fixed lengths inside a
sequence): there the given values are the only oracle.
"""

import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rt2.data.rlds import RldsSteps

tfds = pytest.importorskip("tensorflow_datasets")
tf = pytest.importorskip("tensorflow")
f = tfds.features

DTYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
FLOATS = ("float16", "float32", "float64")
RELAXED = {"suppress_health_check": list(HealthCheck), "deadline": None}


def numbers(rng, dtype, shape):
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if np.dtype(dtype).kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        picked = rng.choice(np.array([low, 0, 1, high // 2, high], dtype), shape)
        return np.asarray(picked, dtype)
    return rng.normal(size=shape).astype(np.float32).astype(dtype)


def text(rng):
    return rng.choice(["", "push", "größe", "x" * 200]).item()


def tensor(dtype, shape, encoding="none"):
    """(feature, value of a generator): unknown dimensions take 0 to 3."""

    def make(rng):
        whole = tuple(rng.integers(1, 4) if dim is None else dim for dim in shape)
        return numbers(rng, dtype, whole)

    kind = {"bfloat16": ml_dtypes.bfloat16}.get(dtype, dtype)
    return f.Tensor(shape=shape, dtype=np.dtype(kind), encoding=encoding), make


def strings(shape):
    def make(rng):
        whole = tuple(rng.integers(1, 4) if dim is None else dim for dim in shape)
        found = np.empty(whole, object)
        for at in np.ndindex(whole):
            found[at] = text(rng)
        return found

    return f.Tensor(shape=shape, dtype=np.str_), make


def image(dtype, channels):
    feature = f.Image(shape=(3, None, channels), dtype=np.dtype(dtype), encoding_format="png")
    return feature, lambda rng: numbers(rng, dtype, (3, 2, channels))


def video():
    one = f.Video(shape=(None, 4, 4, 3))
    return one, lambda rng: numbers(rng, "uint8", (rng.integers(1, 4), 4, 4, 3))


def box(rng):
    low = rng.uniform(0, 0.4, 2)
    ymin, xmin = low.tolist()
    return np.array([ymin, xmin, ymin + 0.5, xmin + 0.25])


SHAPES = st.sampled_from([(), (2,), (3, 2), (9, 9), (70,)])
SIMPLE = st.one_of(
    st.builds(
        tensor,
        st.sampled_from([t for t in DTYPES + FLOATS if t != "uint32"]),
        SHAPES,
        st.sampled_from(["none", "bytes", "zlib"]),
    ),
    st.builds(tensor, st.just("uint32"), SHAPES),
    st.just(tensor("bfloat16", (3,), "bytes")),
    st.builds(image, st.just("uint8"), st.sampled_from([1, 3, 4])),
    st.builds(image, st.just("uint16"), st.sampled_from([1, 3])),
    st.just(image("float32", 1)),
    st.just((f.Text(), text)),
    st.builds(strings, st.sampled_from([(), (2,), (2, 1)])),
    st.just((f.ClassLabel(num_classes=5), lambda rng: int(rng.integers(5)))),
    st.just(
        (f.LabeledImage(labels=5, shape=(2, 2, 1)), lambda rng: numbers(rng, "uint8", (2, 2, 1)))
    ),
    st.just((f.BBoxFeature(), box)),
)
VARYING = st.builds(  # TFDS stacks a sequence: it cannot read one of these
    tensor,
    st.sampled_from(["int16", "float32"]),
    st.sampled_from([(None, 2), (None, 2, None)]),
    st.sampled_from(["bytes", "zlib"]),
)
RECORD_ONLY = st.one_of(
    st.builds(tensor, st.sampled_from(["int32", "float32"]),
              st.sampled_from([(None,), (None, 3), (2, None)])),
    st.builds(strings, st.sampled_from([(None,), (2, None)])),
)  # fmt: skip


def sequence(inner, length, least):
    feature, make = inner

    def several(rng):
        n = rng.integers(least, 4) if length is None else length
        return [make(rng) for _ in range(n)]

    return f.Sequence(feature, length=length), several


def dictionary(children):
    features = {f"k{i}": feature for i, (feature, _) in enumerate(children)}
    makers = {f"k{i}": make for i, (_, make) in enumerate(children)}
    return f.FeaturesDict(features), lambda rng: {k: make(rng) for k, make in makers.items()}


def dictionaries(leaves):
    return st.lists(leaves, min_size=1, max_size=3).map(dictionary)


def sequences(inner, lengths=(None,), least=1):
    return st.builds(sequence, inner, st.sampled_from(lengths), st.just(least))


UNSIGNED = st.builds(tensor, st.just("uint32"), SHAPES, st.just("bytes"))  # TF decodes none
PLAIN = st.one_of(SIMPLE, VARYING, UNSIGNED)
ANY = st.one_of(
    PLAIN,
    st.just(video()),
    sequences(st.one_of(PLAIN, dictionaries(PLAIN)), (None, 2), least=0),
    sequences(sequences(PLAIN, (None, 2), least=0), (None, 2), least=0),
    sequences(dictionaries(st.one_of(SIMPLE, sequences(SIMPLE, least=0))), least=0),
)
READABLE_IN_STEPS = st.one_of(SIMPLE, VARYING, sequences(st.one_of(SIMPLE, dictionaries(SIMPLE))))
READABLE = st.one_of(
    READABLE_IN_STEPS, RECORD_ONLY, st.just(video()), sequences(SIMPLE, (2,)),
    sequences(sequences(st.just(tensor("int32", (2,))))),
    sequences(sequences(st.just((f.Text(), text)))),
)  # fmt: skip


def episodic(step, metadata):
    feature, make = dictionary([dictionary(step)])
    steps = f.Dataset(feature)
    outer, outside = dictionary(metadata)
    whole = f.FeaturesDict({"steps": steps, "meta": outer})

    def record(rng):
        return {"steps": [make(rng) for _ in range(rng.integers(1, 4))], "meta": outside(rng)}

    return whole, record


def write(directory, wire, feature, records):
    """The set of one shard as TFDS serialises it."""
    directory.mkdir(parents=True)
    feature.save_config(directory)
    data = [feature.serialize_example(record) for record in records]
    (directory / "t-train.tfrecord-00000-of-00001").write_bytes(b"".join(map(wire.frame, data)))
    split = {"name": "train", "shardLengths": [str(len(records))]}
    info = {"name": "t", "version": "1.0.0", "splits": [split]}
    (directory / "dataset_info.json").write_text(json.dumps(info))
    return data


def transposed(value):
    """A list of dicts as TFDS gives it: a dict of lists."""
    if isinstance(value, dict):
        return {k: transposed(v) for k, v in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {k: transposed([v[k] for v in value]) for k in value[0]}
    return value


def same(ours, theirs, path=""):
    """Equal in structure, dtype and every value."""
    if isinstance(theirs, dict):
        for key in theirs:
            same(ours[key], theirs[key], f"{path}/{key}")
    elif isinstance(theirs, (list, tf.RaggedTensor)):
        if isinstance(ours, dict):  # an empty sequence of dicts
            assert len(theirs) == 0
            return
        theirs = list(theirs)
        assert len(ours) == len(theirs), path
        for i, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            same(mine, other, f"{path}[{i}]")
    else:
        theirs = theirs.numpy() if isinstance(theirs, tf.Tensor) else theirs
        if isinstance(theirs, (str, bytes)):
            assert ours == (theirs.encode() if isinstance(theirs, str) else theirs), path
            return
        theirs, ours = np.asarray(theirs), np.asarray(ours)
        if theirs.dtype == object:
            theirs = np.vectorize(lambda t: t.encode() if isinstance(t, str) else t, [object])(
                theirs
            )
        same_kind = ours.dtype == theirs.dtype or ours.dtype.kind in "SO" or path.endswith("given")
        assert same_kind and ours.shape == theirs.shape, (path, ours.dtype, theirs.dtype)
        np.testing.assert_array_equal(ours, theirs, err_msg=path)


def given_values(value):
    """What was given, in the types that come out."""
    if isinstance(value, dict):
        return {k: given_values(v) for k, v in value.items()}
    if isinstance(value, list):
        return [given_values(v) for v in value]
    if isinstance(value, np.ndarray) and value.shape == (4,) and value.dtype == np.float64:
        return value.astype(np.float32)  # a bounding box; other tensors of 4 do not occur
    return np.int64(value) if isinstance(value, int) else value


def check_given(steps, records):
    row = 0
    for number, record in enumerate(records):
        same(steps.episode(number)["meta"], transposed(given_values(record["meta"])))
        for step in record["steps"]:
            same(steps[row], transposed(given_values(step)))
            row += 1
    assert row == len(steps)


def check_tfds(steps, directory, data):
    feature = f.FeaturesDict.from_config(directory)
    row = 0
    for number, record in enumerate(data):
        decoded = feature.deserialize_example(record)
        same(steps.episode(number)["meta"], decoded["meta"])
        for step in decoded["steps"]:
            same(steps[row], step)
            row += 1
    assert row == len(steps)


@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, **RELAXED)
def test_what_was_given_comes_out(wire, tmp_path_factory, data, seed):
    step = data.draw(st.lists(ANY, min_size=1, max_size=3))
    metadata = data.draw(st.lists(st.one_of(ANY, RECORD_ONLY), min_size=1, max_size=3))
    feature, record = episodic(step, metadata)
    rng = np.random.default_rng(seed)
    records = [record(rng) for _ in range(2)]
    directory = tmp_path_factory.mktemp("given") / "1.0.0"
    write(directory, wire, feature, records)
    check_given(RldsSteps(directory, "train"), records)


@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, **RELAXED)
def test_what_tfds_reads_is_read_alike(wire, tmp_path_factory, data, seed):
    step = data.draw(st.lists(READABLE_IN_STEPS, min_size=1, max_size=3))
    metadata = data.draw(st.lists(READABLE, min_size=1, max_size=3))
    feature, record = episodic(step, metadata)
    rng = np.random.default_rng(seed)
    directory = tmp_path_factory.mktemp("tfds") / "1.0.0"
    serialised = write(directory, wire, feature, [record(rng) for _ in range(2)])
    check_tfds(RldsSteps(directory, "train"), directory, serialised)


@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, **RELAXED)
def test_flat_sets(wire, tmp_path_factory, data, seed):
    children = data.draw(st.lists(READABLE, min_size=1, max_size=4))
    feature, make = dictionary([dictionary(children)])
    rng = np.random.default_rng(seed)
    records = [make(rng) for _ in range(3)]
    directory = tmp_path_factory.mktemp("flat") / "1.0.0"
    serialised = write(directory, wire, feature, records)
    read = RldsSteps(directory, "train")
    for i, record in enumerate(serialised):
        same(read[i], feature.deserialize_example(record))
        same(read[i], transposed(given_values(records[i])))
