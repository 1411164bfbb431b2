"""The wire-format scan against the protobuf library and hand-made edge cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt2.data.format.example_proto import ProtoError, floats, int64s, scan_example

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(values=st.lists(INT64, max_size=20), packed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_int64_lists(wire, values, packed):
    data = wire.example({"k": ("int64", values)}, packed)
    assert int64s(data, scan_example(data)["k"]).tolist() == values


@given(values=st.lists(st.floats(width=32, allow_nan=False), max_size=20), packed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_float_lists(wire, values, packed):
    data = wire.example({"k": ("float", values)}, packed)
    np.testing.assert_array_equal(
        floats(data, scan_example(data)["k"]), np.array(values, np.float32)
    )


def test_byte_ranges_point_into_the_record(wire):
    texts = [b"", b"a" * 200, b"xyz"]
    data = wire.example({"one": ("bytes", texts), "two": ("bytes", [])})
    found = scan_example(data)
    assert [data[s : s + n] for s, n in found["one"].ranges] == texts
    assert found["two"].kind == "bytes" and found["two"].ranges == []


@pytest.mark.parametrize("cut", [1, 5, 20, 60])
def test_a_cut_record_is_refused(wire, cut):
    data = wire.example({"key": ("float", [1.0] * 10), "text": ("bytes", [b"hello"])})
    with pytest.raises(ProtoError):
        scan_example(data[:-cut])


def test_a_key_that_stands_twice_is_refused(wire):
    data = wire.example({"key": ("int64", [1])})
    with pytest.raises(ProtoError):
        scan_example(data + data)  # a merge in protobuf's rules: last one wins, silently


def test_equals_the_protobuf_library():
    tf = pytest.importorskip("tensorflow")
    features = {
        "f": tf.train.Feature(float_list=tf.train.FloatList(value=[1.5, -2.0])),
        "i": tf.train.Feature(int64_list=tf.train.Int64List(value=[-5, 0, 300])),
        "b": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x", b"yy"])),
        "empty": tf.train.Feature(),
    }
    data = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    found = scan_example(data)
    assert floats(data, found["f"]).tolist() == [1.5, -2.0]
    assert int64s(data, found["i"]).tolist() == [-5, 0, 300]
    assert [data[s : s + n] for s, n in found["b"].ranges] == [b"x", b"yy"]
    assert found["empty"].kind == "empty"
