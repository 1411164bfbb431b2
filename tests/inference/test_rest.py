"""OpenVLA's `POST /act`, and HTTP that means no good."""

import base64
import json
import socket
import tracemalloc

import numpy as np
import pytest

from rt2.inference import json_numpy, rest
from rt2.inference.wire import WireError
from tests.inference.serving import StubPolicy, always, post, serving

IMAGE = np.full((4, 5, 3), 7, np.uint8)


@pytest.fixture(scope="module")
def served():
    with serving(always(StubPolicy())) as running:
        yield running


def numpy_json(array) -> dict:
    """As the json-numpy package writes it."""
    data = base64.b64encode(array.tobytes()).decode()
    return {"__numpy__": data, "dtype": array.dtype.str, "shape": list(array.shape)}


def asked(**more) -> dict:
    return {"image": numpy_json(IMAGE), "instruction": "push", **more}


def test_the_answer_is_the_action(served):
    status, body, headers = post(served.rest, json.dumps(asked(id="x1")).encode())
    told = json.loads(body)
    assert status == 200 and told["dtype"] == "<f4" and told["shape"] == [2]
    assert np.frombuffer(base64.b64decode(told["__numpy__"]), "<f4").tolist() == [7, 7]
    assert headers["RT2-Terminate"] == "false" and headers["RT2-Id"] == "x1"
    assert len(headers["RT2-Model"]) == 16


def test_json_within_json_is_answered_so(served):
    body = json.dumps({"encoded": json.dumps(asked(unnorm_key=None))}).encode()
    status, body, _ = post(served.rest, body)
    assert status == 200 and json.loads(json.loads(body))["shape"] == [2]


def test_unnorm_key_names_the_data_set(served):
    assert rest._asked(json.dumps(asked(unnorm_key="arm")).encode())[0]["dataset"] == "arm"


BAD = {
    "no json": (b"\x80\x04\x95", "no JSON"),
    "utf-8": (b'{"a": "\xff"}', "no JSON"),
    "deep": (b"[" * 5000, "no JSON"),
    "deeper": (b"[" * 20_000, "values are taken"),
    "many": (b"[" + b"[]," * 9000 + b"[]]", "values are taken"),
    "NaN": (b'{"state": NaN}', "NaN is no JSON number"),
    "twice": (b'{"prompt": "a", "prompt": "b"}', "prompt: given twice"),
    "huge number": (b'{"state": ' + b"9" * 5000 + b"}", "no JSON"),
    "beyond 64 bits": (b'{"state": ' + b"9" * 30 + b"}", "64 bits"),
    "a list": (b"[]", "expected a map"),
    "unknown key": (json.dumps(asked(wrist=1)).encode(), "wrist: unknown"),
    "no array": (json.dumps(asked(image=[1])).encode(), "image.0: int"),
    "encoded number": (b'{"encoded": 1}', "encoded: expected a text"),
    "surrogate": (b'{"encoded": "\\ud800"}', "surrogates"),
    "two data sets": (json.dumps(asked(unnorm_key="a", dataset="b")).encode(), "unnorm_key"),
    "long text": (json.dumps(asked(state="x" * 9000)).encode(), "state: a text of more"),
    "wide": (json.dumps(asked(state={f"k{i}": i for i in range(70)})).encode(), "state: more than"),
    "session": (json.dumps(asked(seq=1)).encode(), "belong to websocket"),
}


@pytest.mark.parametrize("body, reason", BAD.values(), ids=BAD)
def test_bad_bodies_are_refused_by_name(served, body, reason):
    status, told, _ = post(served.rest, body)
    assert status == 400 and reason in json.loads(told)["message"]


ARRAYS = {
    "object": {"dtype": "|O"},
    "void": {"dtype": "|V4"},
    "big endian": {"dtype": ">f4"},
    "structured": {"dtype": [["a", "|u1"]]},
    "lying shape": {"shape": [2**40, 3]},
    "negative": {"shape": [-4, -5, 3]},
    "zero": {"shape": [0]},
    "another key": {"order": "F"},
    "no base64": {"__numpy__": "*"},
    "bytes left": {"__numpy__": "AAAA"},
    "a list": {"__numpy__": [1]},
}


@pytest.mark.parametrize("change", ARRAYS.values(), ids=ARRAYS)
def test_no_array_is_built_from_a_lie(change):
    body = json.dumps({"image": numpy_json(IMAGE) | change}).encode()
    tracemalloc.start()
    with pytest.raises(WireError, match="image"):
        json_numpy.loads(body)
    grown = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert grown < 100_000


def test_round_trip():
    sent = {"a": IMAGE, "b": [np.float32(1.5), {"c": np.arange(3)}], "d": "x", "e": None}
    back = json_numpy.loads(json_numpy.dumps(sent).encode())
    np.testing.assert_array_equal(back["a"], IMAGE)
    assert back["b"][0] == np.float32(1.5) and back["b"][0].dtype == np.float32
    assert back["b"][1]["c"].tolist() == [0, 1, 2] and (back["d"], back["e"]) == ("x", None)
    with pytest.raises(WireError):
        json_numpy.dumps({"a": object()})


def raw(port, *parts, answered=True) -> bytes:
    """What the server answers to bytes sent as they are."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        told = b""
        while answered and (piece := connection.recv(65536)):
            told += piece
    return told


def head(*lines, path="/act") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode()


HEADS = {
    "no length": (head(), b"400"),
    "two lengths": (head("Content-Length: 2", "Content-Length: 3"), b"400"),
    "chunked": (head("Transfer-Encoding: chunked", "Content-Length: 2"), b"400"),
    "signed": (head("Content-Length: +2"), b"400"),
    "too large": (head(f"Content-Length: {json_numpy.MAX_BODY + 1}"), b"413"),
    "2**70": (head(f"Content-Length: {2**70}"), b"400"),
    "web page": (head("Origin: http://example.org", "Content-Length: 2"), b"403"),
    "no http": (b"hello there\r\n\r\n", b"400"),
    "folded": (head("A: b", " c: d"), b"400"),
    "long": (b"POST /act HTTP/1.1\r\nA: " + b"x" * 20_000 + b"\r\n\r\n", b"413"),
    "method": (b"DELETE /act HTTP/1.1\r\n\r\n", b"404"),
    "traversal": (head("Content-Length: 0", path="/../../etc/passwd"), b"404"),
}


@pytest.mark.parametrize("sent, status", HEADS.values(), ids=HEADS)
def test_bad_requests_are_answered_without_their_body(served, sent, status):
    assert raw(served.rest, sent).split(b" ")[1] == status


def test_slow_clients_are_sent_away(served, monkeypatch):
    monkeypatch.setattr(rest, "HEAD_SECONDS", 0.05)
    monkeypatch.setattr(rest, "BODY_SECONDS", 0.05)
    assert b" 408 " in raw(served.rest, b"POST /act")
    assert b" 408 " in raw(served.rest, head("Content-Length: 9"), b"{")


def test_a_client_may_wait_for_the_word_to_go_on(served):
    body = json.dumps(asked()).encode()
    sent = head(f"Content-Length: {len(body)}", "Expect: 100-continue")
    told = raw(served.rest, sent, body)
    assert told.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_a_client_that_leaves_is_no_matter(served):
    raw(served.rest, head("Content-Length: 9"), b"{", answered=False)
    assert post(served.rest, json.dumps(asked()).encode())[0] == 200
