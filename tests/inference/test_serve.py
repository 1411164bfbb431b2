"""The server, by real websockets: what it answers, refuses, and survives."""

import asyncio
import json
import logging
import re
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from rt2.inference import access, logs, refusal, serve, server, wire
from rt2.inference.access import ServeError
from tests.inference.serving import (
    REQUEST,
    always,
    ask,
    client,
    get,
    serving,
)

LEAK = re.compile(r"Traceback|0x[0-9a-f]{6,}|\w+\.py|(/[\w.-]+){2,}|secret")


@pytest.fixture
def port(served):
    return served.port


def refused(port, frame):
    """The code and text that a client is told and the code with which the connection is closed."""
    with client(port) as connection:
        connection.recv()
        connection.send(frame)
        text = connection.recv(timeout=20)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=20)
    told = json.loads(text)
    return told, closed.value.rcvd.code


def test_metadata_first_then_one_reply_for_each_request(port):
    with client(port) as connection:
        greeting = wire.decode(connection.recv())
        assert greeting["dataset"] == "table" and greeting["step"] == 3
        assert "observation/wrist_image" in greeting["observation"]["unused"]
        first, second = ask(connection, REQUEST), ask(connection, REQUEST)
    assert first["actions"].shape == (1, 2) and first["actions"].dtype == np.float32
    assert (first["terminate"], first["text"], first["log_prob"]) == (False, "0 3", -0.5)
    assert first["tokens"] == [3, 4]  # plain: openpi's broker slices every array on its first axis
    assert first["policy_timing"] == {"infer_ms": 3.0, "preprocess_ms": 1.0, "decode_ms": 2.0}
    assert set(first["server_timing"]) == {"infer_ms"}
    assert second["server_timing"]["prev_total_ms"] >= first["server_timing"]["infer_ms"]


def test_metadata_holds_nothing_of_this_machine(port):
    with client(port) as connection:
        assert not LEAK.search(str(wire.decode(connection.recv())).replace("observation/", ""))


def test_openpi_keys_are_understood(port):
    image = np.full((3, 8, 9), 7, np.uint8)
    aloha = {"images": {"cam_high": image}, "state": np.zeros(14, np.float32), "prompt": "push"}
    with client(port) as connection:
        connection.recv()
        assert ask(connection, aloha)["actions"].tolist() == [[7, 7]]


BAD = {
    "not msgpack": (b"\xc1", "msgpack"),
    "pickle": (b"\x80\x04\x95\x00", "msgpack"),
    "text frame": ("hello", "binary"),
    "unknown key": (wire.encode({**REQUEST, "wrist": 1}), "wrist: unknown"),
    "missing image": (wire.encode({"prompt": "push"}), "image: missing"),
    "NaN state": (wire.encode({**REQUEST, "state": np.array([np.nan])}), "state: NaN"),
}


@pytest.mark.parametrize("frame, reason", BAD.values(), ids=BAD)
def test_a_bad_request_is_told_its_field_and_closed(port, frame, reason):
    told, code = refused(port, frame)
    assert told["code"] == "bad_request" and code == 1011
    assert reason in told["message"] and len(told["message"]) <= refusal.MAX_MESSAGE
    with client(port) as connection:  # the next client is served
        connection.recv()
        assert "actions" in ask(connection, REQUEST)


def test_a_fault_of_the_server_leaks_nothing(port, caplog):
    told, code = refused(port, wire.encode({**REQUEST, "instruction": "fail"}))
    assert told["code"] == "internal" and code == 1011
    assert not LEAK.search(told["message"])
    incident = told["message"].split()[-1]
    assert incident in caplog.text and "secret" in caplog.text  # the operator sees it all


def test_an_oversized_frame_closes_with_1009_and_others_are_served(port):
    with client(port) as other, client(port) as connection:
        other.recv()
        connection.recv()
        with pytest.raises(ConnectionClosed) as closed:
            connection.send(bytes(wire.MAX_FRAME + 1))
            connection.recv(timeout=20)
        assert closed.value.rcvd.code == 1009
        assert "actions" in ask(other, REQUEST)


def test_health_and_pings_are_answered_while_the_model_computes(port, stub):
    stub.go_on.clear()
    with client(port) as connection:
        connection.recv()
        connection.send(wire.encode(REQUEST))
        assert stub.entered.wait(10)
        assert get(port) == (200, b"OK\n")
        assert connection.ping().wait(5)
        stub.go_on.set()
        assert "actions" in wire.decode(connection.recv(timeout=20))


def test_only_clients_with_the_key_are_admitted(stub):
    key = "k" * 32
    with serving(always(stub), [("act", key)]) as served:
        port = served.port
        for header in (None, "Api-Key wrong", f"Bearer {key}", f"Api-Key {key}x", "Api-Key é"):
            headers = {"Authorization": header} if header else None
            with pytest.raises(InvalidStatus) as refused:
                client(port, additional_headers=headers)
            assert refused.value.response.status_code == 401
        with client(port, additional_headers={"Authorization": f"Api-Key {key}"}) as connection:
            connection.recv()
            assert "actions" in ask(connection, REQUEST)
        assert get(port) == (200, b"OK\n")


def test_web_pages_are_refused(port):
    with pytest.raises(InvalidStatus) as refused:
        client(port, origin="http://example.org")
    assert refused.value.response.status_code == 403


def test_other_paths_do_not_exist_over_http(port):
    assert get(port, "/metadata")[0] == 426  # a websocket is all there is


def test_clients_beyond_the_limit_are_turned_away(port, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    with client(port) as a, client(port) as b:
        a.recv(), b.recv()
        with pytest.raises(InvalidStatus) as refused:
            client(port)
        assert refused.value.response.status_code == 503


def test_stopping_finishes_the_request_in_flight(stub):
    stub.go_on.clear()
    with serving(always(stub)) as served, client(served.port) as busy, client(served.port) as idle:
        busy.recv(), idle.recv()
        busy.send(wire.encode(REQUEST))
        assert stub.entered.wait(10)
        served.end()
        with pytest.raises(ConnectionClosed) as closed:
            idle.recv(timeout=10)
        assert closed.value.rcvd.code == 1001
        with pytest.raises(OSError):
            client(served.port)
        stub.go_on.set()
        assert "actions" in wire.decode(busy.recv(timeout=10))
        with pytest.raises(ConnectionClosed) as closed:
            busy.recv(timeout=10)
        assert closed.value.rcvd.code == 1001


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_needs_no_token(host):
    access.check_exposure(host, False, False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "robot.example.org"])
def test_other_machines_need_a_key_and_encryption(host):
    with pytest.raises(ServeError, match="--token-file"):
        access.check_exposure(host, False, True)
    with pytest.raises(ServeError, match="--tls-cert"):
        access.check_exposure(host, True, False)
    access.check_exposure(host, True, True)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """PEM files of a certificate for 127.0.0.1 and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    files = [folder / "cert.pem", folder / "key.pem"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    made += ["-nodes", "-days", "1", "-subj", "/CN=robot", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


def test_both_transports_speak_tls_and_nothing_else(stub, certificate):
    trusting = ssl.create_default_context(cafile=certificate[0])
    with serving(always(stub), tls=access.read_tls(*certificate)) as served:
        with connect(f"wss://127.0.0.1:{served.port}", ssl=trusting) as connection:
            connection.recv()
            assert "actions" in ask(connection, REQUEST)
        page = f"https://127.0.0.1:{served.rest}/readyz"
        with urllib.request.urlopen(page, timeout=10, context=trusting) as told:
            assert told.status == 200
        for port in (served.port, served.rest):
            with pytest.raises(OSError):
                get(port, "/healthz")
        with pytest.raises(ssl.SSLError):  # who checks the certificate, checks it
            connect(f"wss://127.0.0.1:{served.port}")
        with connect(f"wss://127.0.0.1:{served.port}", ssl=trusting) as connection:
            connection.recv()


def test_a_certificate_that_is_none_is_an_error(tmp_path):
    (tmp_path / "cert.pem").write_text("nothing")
    with pytest.raises(ServeError, match="PEM"):
        access.read_tls(tmp_path / "cert.pem", tmp_path / "cert.pem")


def test_a_log_line_is_one_line_whatever_a_client_writes():
    record = logging.LogRecord("a", 20, "f", 1, 'x\n{"level": "ERROR"}\u2028%s', ("\r\n",), None)
    line = logs.JsonLines().format(record)
    assert line.isascii() and "\n" not in line and json.loads(line)["level"] == "INFO"


def test_nothing_that_is_received_reaches_pickle():
    code = """
import sys
events = []
sys.addaudithook(lambda name, _: events.append(name) if name.startswith(("pickle", "exec")) else 0)
from rt2.inference import json_numpy, request, wire
events.clear()
data = b"\\x80\\x04\\x95\\x1c\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x8c\\x02os"
array = {b"__ndarray__": True, b"data": data, b"dtype": "|O", b"shape": [1]}
readers = [wire.decode, json_numpy.loads, lambda sent: request.read(sent, ["image"])]
for read, sent in zip(readers, [data, data, {"image": array}]):
    try:
        read(sent)
    except Exception as error:
        print(type(error).__name__)
print(events)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["WireError", "WireError", "Refusal", "[]"]


def test_token_files(tmp_path):
    file = tmp_path / "token"
    for content in ("short", "two words of which one is long", "king " + "k" * 32):
        file.write_text(content)
        with pytest.raises(ServeError, match="a line is one key"):
            access.read_keys(file)
    file.write_text("\n")
    with pytest.raises(ServeError, match="no key in it"):
        access.read_keys(file)
    with pytest.raises(ServeError, match="unreadable"):
        access.read_keys(tmp_path / "none")
    file.write_text("k" * 32 + "\nadmin " + "a" * 32 + "\n")
    assert access.read_keys(file).keys == (("act", "k" * 32), ("admin", "a" * 32))


def test_a_taken_port_is_an_error_with_a_remedy(stub):
    with serving(always(stub)) as served:
        with pytest.raises(ServeError, match="port 0 picks"):
            asyncio.run(server.WebsocketServer(served.front).listen("127.0.0.1", served.port, None))


def test_a_policy_answers_through_the_wire_as_it_does_directly(policy, observations):
    with serving(always(policy)) as served, client(served.port) as connection:
        connection.recv()
        for observation in observations[:6]:
            reply, direct = ask(connection, observation), policy.infer(observation)
            np.testing.assert_array_equal(reply["actions"], direct["actions"])
            assert reply["tokens"] == direct["tokens"].tolist()
        question = {**observations[0], "mode": "vqa", "instruction": "where is the cup"}
        assert ask(connection, question)["text"] == policy.infer(question)["text"]
        limb = {**observations[2], "image": observations[2]["image"]}
        flat = {**limb, "observation/state": np.array(limb["state"])}
        del flat["state"]
        assert ask(connection, flat)["tokens"] == policy.infer(limb)["tokens"].tolist()
    with serving(always(policy)) as served:
        told, _ = refused(served.port, wire.encode({**observations[0], "dataset": "tabel"}))
        assert "'table'" in told["message"]  # the nearest name
        told, _ = refused(served.port, wire.encode({**observations[0], "dataset": "limb"}))
        assert told["message"].startswith("state: missing; this model reads the 3 numbers")


def test_the_command_serves_a_checkpoint_until_sigterm(checkpoint_dir, observations):
    command = [sys.executable, "-m", "rt2.inference.serve", "--port=0", "--max-batch=1"]
    process = subprocess.Popen(
        [*command, "--hold-below=1", f"--checkpoint={checkpoint_dir}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = next(line for line in process.stdout if line.startswith("listening on"))
        port = int(re.fullmatch(r"listening on ws://127\.0\.0\.1:(\d+)\n", line).group(1))
        with client(port) as connection:
            greeting = wire.decode(connection.recv())
            assert greeting["step"] == 7 and greeting["decoding"]["hold_below"] == 1
            told = ask(connection, observations[1])
            assert told["hold"] and told["actions"].tolist() == [[0, 0]]
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    finally:
        process.kill()
        process.stdout.close()


def test_the_command_refuses_an_open_host_and_a_folder_without_a_checkpoint(tmp_path):
    with pytest.raises(SystemExit, match="--token-file"):
        serve.main([f"--checkpoint={tmp_path}", "--host=0.0.0.0"])
    with pytest.raises(SystemExit, match="top_p: 0.0, expected above 0"):
        serve.main([f"--checkpoint={tmp_path}", "--top-p=0"])
    with pytest.raises(SystemExit, match="no checkpoint here"):
        serve.main([f"--checkpoint={tmp_path}", "--port=0"])


def test_serving_and_exporting_load_no_training_code_and_no_data_set_reader():
    unwanted = (
        "tensorflow",
        "tensorflow_datasets",
        "grain",
        "rt2.train",
        "rt2.sim",
        "rt2.evaluate",
    )
    code = (
        "import sys, rt2.inference.serve, rt2.inference.export\n"
        f"print([m for m in {unwanted} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
