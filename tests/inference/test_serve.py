"""The server, by real websockets: what it answers, refuses, and survives."""

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from rt2.inference import serve, server, wire
from rt2.inference.server import PolicyServer, ServeError

IMAGE = np.zeros((8, 8, 3), np.uint8)
REQUEST = {"image": IMAGE, "instruction": "push"}
LEAK = re.compile(r"Traceback|0x[0-9a-f]{6,}|\w+\.py|(/[\w.-]+){2,}|secret")


class StubPolicy:
    """Moves by the mean of the image; fails or waits when it is told to."""

    metadata = {"dataset": "table", "step": 3, "eval_sources": {"path": "/secret/place"}}

    def __init__(self):
        self.go_on = threading.Event()
        self.entered = threading.Event()
        self.go_on.set()

    def infer(self, observation):
        self.entered.set()
        if observation["instruction"] == "fail":
            raise RuntimeError("/secret/place/model.py at 0xdeadbeef")
        assert self.go_on.wait(30)
        return {
            "actions": np.full((1, 2), observation["image"].mean(), np.float32),
            "terminate": False,
            "tokens": np.array([3, 4], np.int32),
            "text": "0 1",
            "log_prob": -0.5,
            "timing": {"preprocess_ms": 1.0, "decode_ms": 2.0},
        }


@contextlib.contextmanager
def serving(policy, token=None):
    """The port of a server that runs in a thread, and what stops it."""
    listening, port, loops, stops = threading.Event(), [], [], []

    async def run():
        stops.append(asyncio.Event())
        loops.append(asyncio.get_running_loop())

        def ready(number):
            port.append(number)
            listening.set()

        await PolicyServer(policy, token).run("127.0.0.1", 0, stops[0], ready)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert listening.wait(10)
    stop = lambda: loops[0].call_soon_threadsafe(stops[0].set)  # noqa: E731
    try:
        yield port[0], stop
    finally:
        with contextlib.suppress(RuntimeError):  # the loop is closed where a test has stopped it
            stop()
        thread.join(15)
        assert not thread.is_alive()


@pytest.fixture
def stub():
    return StubPolicy()


@pytest.fixture
def port(stub):
    with serving(stub) as (port, _):
        yield port


def client(port, **options):
    return connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None, **options)


def get(port, path="/healthz"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
        return response.status, response.read()


def ask(connection, request):
    connection.send(wire.encode(request))
    return wire.decode(connection.recv(timeout=20))


def refusal(port, frame):
    """The text that a client is told and the code with which the connection is closed."""
    with client(port) as connection:
        connection.recv()
        connection.send(frame)
        text = connection.recv(timeout=20)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=20)
    assert isinstance(text, str)
    return text, closed.value.rcvd.code


def test_metadata_first_then_one_reply_for_each_request(port):
    with client(port) as connection:
        greeting = wire.decode(connection.recv())
        assert greeting["dataset"] == "table" and greeting["step"] == 3
        assert "observation/wrist_image" in greeting["observation"]["unused"]
        first, second = ask(connection, REQUEST), ask(connection, REQUEST)
    assert first["actions"].shape == (1, 2) and first["actions"].dtype == np.float32
    assert (first["terminate"], first["text"], first["log_prob"]) == (False, "0 1", -0.5)
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
    text, code = refusal(port, frame)
    assert reason in text and len(text) <= server.MAX_MESSAGE and code == 1011
    with client(port) as connection:  # the next client is served
        connection.recv()
        assert "actions" in ask(connection, REQUEST)


def test_a_fault_of_the_server_leaks_nothing(port, caplog):
    text, code = refusal(port, wire.encode({**REQUEST, "instruction": "fail"}))
    assert text.startswith("internal error") and code == 1011
    assert not LEAK.search(text)
    incident = text.split()[-1]
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
    with serving(stub, key) as (port, _):
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
    with pytest.raises(urllib.error.HTTPError):
        get(port, "/metadata")


def test_clients_beyond_the_limit_are_turned_away(port, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    with client(port) as a, client(port) as b:
        a.recv(), b.recv()
        with pytest.raises(InvalidStatus) as refused:
            client(port)
        assert refused.value.response.status_code == 503


def test_stopping_finishes_the_request_in_flight(stub):
    stub.go_on.clear()
    with serving(stub) as (port, stop), client(port) as busy, client(port) as idle:
        busy.recv(), idle.recv()
        busy.send(wire.encode(REQUEST))
        assert stub.entered.wait(10)
        stop()
        with pytest.raises(ConnectionClosed) as closed:
            idle.recv(timeout=10)
        assert closed.value.rcvd.code == 1001
        with pytest.raises(OSError):
            client(port)
        stub.go_on.set()
        assert "actions" in wire.decode(busy.recv(timeout=10))
        with pytest.raises(ConnectionClosed) as closed:
            busy.recv(timeout=10)
        assert closed.value.rcvd.code == 1001


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_needs_no_token(host):
    server.check_exposure(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "robot.example.org"])
def test_other_machines_need_a_token(host):
    with pytest.raises(ServeError, match="--token-file"):
        server.check_exposure(host, None)
    server.check_exposure(host, "k" * 32)


def test_token_files(tmp_path):
    file = tmp_path / "token"
    for content in ("", "short", "two words of which one is long"):
        file.write_text(content)
        with pytest.raises(ServeError, match="one word"):
            serve.read_token(file)
    with pytest.raises(ServeError, match="unreadable"):
        serve.read_token(tmp_path / "none")
    file.write_text("k" * 32 + "\n")
    assert serve.read_token(file) == "k" * 32


def test_a_taken_port_is_an_error_with_a_remedy(port, stub):
    with pytest.raises(ServeError, match="--port=0"):
        asyncio.run(PolicyServer(stub, None).run("127.0.0.1", port, asyncio.Event(), print))


def test_a_policy_answers_through_the_wire_as_it_does_directly(policy, observations):
    with serving(policy) as (port, _), client(port) as connection:
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
    with serving(policy) as (port, _):
        text, _ = refusal(port, wire.encode({**observations[0], "dataset": "tabel"}))
        assert "'table'" in text  # the nearest name
        text, _ = refusal(port, wire.encode({**observations[0], "dataset": "limb"}))
        assert text.startswith("state: missing; this model reads the 3 numbers")


def test_the_command_serves_a_checkpoint_until_sigterm(checkpoint_dir, observations):
    command = [sys.executable, "-m", "rt2.inference.serve", "--port=0"]
    process = subprocess.Popen(
        [*command, f"--checkpoint={checkpoint_dir}"], stdout=subprocess.PIPE, text=True
    )
    try:
        line = next(line for line in process.stdout if line.startswith("listening on"))
        port = int(re.fullmatch(r"listening on ws://127\.0\.0\.1:(\d+)\n", line).group(1))
        with client(port) as connection:
            assert wire.decode(connection.recv())["step"] == 7
            assert ask(connection, observations[0])["actions"].shape == (1, 7)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    finally:
        process.kill()
        process.stdout.close()


def test_the_command_refuses_an_open_host_before_it_loads_anything(tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit, match="--token-file"):
        serve.main([f"--checkpoint={tmp_path}", "--host=0.0.0.0"])
    with pytest.raises(SystemExit, match="no checkpoint here"):
        serve.main([f"--checkpoint={tmp_path}"])


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
