"""The frames of the openpi protocol, byte by byte, and everything that is not one."""

import math
import pickle
import random
import tracemalloc

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rt2.inference import wire

# {"image": uint8 [[0 1 2] [3 4 5]], "speed": float32 1.5, "prompt": "hi"}, written by hand
ARRAY = (
    b"\x84"
    b"\xc4\x0b__ndarray__\xc3"
    b"\xc4\x04data\xc4\x06\x00\x01\x02\x03\x04\x05"
    b"\xc4\x05dtype\xa3|u1"
    b"\xc4\x05shape\x92\x02\x03"
)
SCALAR = (
    b"\x83"
    b"\xc4\x0d__npgeneric__\xc3"
    b"\xc4\x04data\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"
    b"\xc4\x05dtype\xa3<f4"
)
FRAME = b"\x83\xa5image" + ARRAY + b"\xa5speed" + SCALAR + b"\xa6prompt\xa2hi"


def message():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    return {"image": image, "speed": np.float32(1.5), "prompt": "hi"}


def test_encode_writes_the_bytes_of_the_protocol():
    assert wire.encode(message()) == FRAME


def test_decode_reads_the_bytes_of_the_protocol():
    decoded = wire.decode(FRAME)
    assert decoded["prompt"] == "hi"
    assert type(decoded["speed"]) is np.float32 and decoded["speed"] == 1.5
    np.testing.assert_array_equal(decoded["image"], message()["image"])
    assert decoded["image"].dtype == np.uint8
    decoded["image"][0, 0] = 9  # a copy that owns its bytes
    assert decoded["image"].base is None or decoded["image"].flags.writeable


def array(**changes):
    node = {b"__ndarray__": True, b"data": bytes(6), b"dtype": "|u1", b"shape": [2, 3]}
    return node | {key.encode(): value for key, value in changes.items()}


def scalar(data, dtype):
    return {b"__npgeneric__": True, b"data": data, b"dtype": dtype}


BAD = {
    "object": (array(dtype="|O"), "dtype"),
    "void": (array(dtype="|V6"), "dtype"),
    "structured": (array(dtype=[["a", "|u1"]]), "dtype"),
    "complex": (array(dtype="<c8", data=bytes(48)), "dtype"),
    "big endian": (array(dtype=">f4", data=bytes(24)), "dtype"),
    "half": (array(dtype="<f2", data=bytes(12)), "dtype"),
    "uint16": (array(dtype="<u2", data=bytes(12)), "dtype"),
    "text": (array(dtype="<U1", data=bytes(24)), "dtype"),
    "date": (array(dtype="<M8[s]", data=bytes(48)), "dtype"),
    "python name": (array(dtype="uint8"), "dtype"),
    "comma string": (array(dtype="i4,f8"), "dtype"),
    "too few bytes": (array(data=bytes(5)), "5 bytes"),
    "too many bytes": (array(data=bytes(7)), "7 bytes"),
    "no bytes": (array(data=b""), "0 bytes"),
    "data is text": (array(data="abcdef"), "data is str"),
    "data is a list": (array(data=[0] * 6), "data is list"),
    "negative side": (array(shape=[-2, -3]), "sizes"),
    "wildcard side": (array(shape=[2, -1]), "sizes"),
    "zero side": (array(shape=[0, 3], data=b""), "sizes"),
    "2**40": (array(shape=[2**40]), "sizes"),
    "product wraps": (array(shape=[65536, 65536, 65536, 65536]), "bytes"),
    "float side": (array(shape=[2.0, 3]), "sizes"),
    "bool side": (array(shape=[True, 6]), "sizes"),
    "text side": (array(shape=["2", 3]), "sizes"),
    "shape is a number": (array(shape=6), "sizes"),
    "shape is missing": ({b"__ndarray__": True, b"data": bytes(6), b"dtype": "|u1"}, "exactly"),
    "rank 5": (array(shape=[1, 1, 1, 2, 3]), "at most 4"),
    "another key": (array(strides=[3, 1]), "exactly"),
    "tag is false": (array(__ndarray__=False), "exactly"),
    "tag is 1": (array(__ndarray__=1), "exactly"),
    "bool of 2": (array(dtype="|b1", data=bytes([0, 1, 2, 0, 1, 0])), "bool array"),
    "scalar object": (scalar(1, "|O"), "dtype"),
    "scalar too large": (scalar(256, "|u1"), "does not fit"),
    "scalar negative": (scalar(-1, "|u1"), "does not fit"),
    "scalar int64": (scalar(2**63, "<i8"), "does not fit"),
    "scalar fraction": (scalar(1.5, "<i4"), "scalar of type float"),
    "scalar text": (scalar("1", "<f4"), "scalar of type str"),
    "scalar bool": (scalar(True, "<i4"), "scalar of type bool"),
    "scalar overflow": (scalar(1e300, "<f4"), "does not fit"),
    "scalar bytes": (scalar(b"\x00", "|u1"), "scalar of type bytes"),
    "raw bytes": (b"\xff\xd8\xff", "expected text, number or array"),
    "bytes key": ({b"x": 1}, "bytes key"),
    "extension": (msgpack.ExtType(5, b""), "expected text"),
    "deep": ([[[[[[1]]]]]], "nested"),
}


@pytest.mark.parametrize("node, reason", BAD.values(), ids=BAD)
def test_bad_value_is_refused_by_the_name_of_its_field(node, reason):
    frame = msgpack.packb({"images": {"front": node}})
    with pytest.raises(wire.WireError, match=reason) as error:
        wire.decode(frame)
    assert str(error.value).startswith("images.front")


BAD_FRAMES = {
    "empty": b"",
    "truncated": FRAME[:-3],
    "trailing": FRAME + b"\x00",
    "never used": b"\xc1",
    "utf-8": b"\x81\xa1a\xa2\xff\xfe",
    "surrogate": b"\x81\xa1a\xa3\xed\xa0\x80",
    "twice": b"\x82\xa6prompt\x01\xa6prompt\x02",
    "int key": b"\x81\x01\x01",
    "nil key": b"\x81\xc0\x01",
    "map key": b"\x81\x80\x01",
    "timestamp": b"\x81\xa1a\xd6\xff\x00\x00\x00\x00",
    "pickle": pickle.dumps({"image": 1}),
    "pickle 0": pickle.dumps({"image": 1}, protocol=0),
    "claims 4 GB": b"\x81\xa1a\xc6\xff\xff\xff\xff",
    "claims 4 G items": b"\xdd\xff\xff\xff\xff",
    "400 levels": b"\x91" * 400 + b"\x01",
    "100,000 levels": b"\x91" * 100_000,
    "many maps": b"\xdc\x00\x40" + (b"\xdc\x00\x40" + b"\x80" * 64) * 64,
    "long list": b"\xdc\xff\xff" + b"\x80" * 65_535,
    "long text": b"\x81\xa1a\xdb\x00\x01\x00\x00" + b"x" * 65_536,
}


@pytest.mark.parametrize("frame", BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_bad_frame_is_refused_without_growing(frame):
    tracemalloc.start()
    with pytest.raises(wire.WireError):
        wire.decode(frame)
    grown = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert grown < 2 * len(frame) + 200_000


def test_an_oversized_frame_is_refused():
    with pytest.raises(wire.WireError, match="at most"):
        wire.decode(bytes(wire.MAX_FRAME + 1))


def test_an_image_takes_at_most_twice_its_bytes():
    frame = wire.encode({"image": np.zeros((1080, 1920, 3), np.uint8)})
    tracemalloc.start()
    wire.decode(frame)
    grown = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert grown < 2.1 * len(frame)


@pytest.mark.parametrize(
    "value",
    [np.zeros(2, np.complex64), np.array([None]), np.zeros(2, ">f4"), b"", object(), {1, 2}],
    ids=lambda value: type(value).__name__,
)
def test_encode_refuses_what_decode_would(value):
    with pytest.raises(wire.WireError):
        wire.decode(wire.encode({"a": value}))


def arrays():
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, max_side=5)
    dtypes = st.sampled_from(list(wire.DTYPES.values()))
    return dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shapes))


def messages():
    numbers = st.none() | st.booleans() | st.floats() | st.integers(-(2**63), 2**64 - 1)
    leaves = numbers | st.text(max_size=20) | arrays()
    return st.dictionaries(st.text(max_size=8), leaves | st.lists(leaves, max_size=3), max_size=4)


def same(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and math.isnan(b)))


@given(messages())
def test_round_trip(sent):
    assert same(sent, wire.decode(wire.encode(sent)))


@given(st.binary(max_size=60))
def test_any_bytes_decode_or_are_refused(data):
    try:
        wire.decode(data)
    except wire.WireError:
        pass


def test_2000_mutated_frames_decode_or_are_refused():
    rng = random.Random(0)
    outcomes = {"decoded": 0, "refused": 0}
    for _ in range(2000):
        frame = bytearray(FRAME)
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(frame))
            frame[place : place + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2))
        try:
            wire.decode(bytes(frame))
            outcomes["decoded"] += 1
        except wire.WireError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 100
