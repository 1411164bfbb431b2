"""A server in a thread, with its model in another: what the tests of all transports talk to."""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request

import numpy as np
from websockets.sync.client import connect

from rt2.inference import serve, wire, worker
from rt2.inference.access import Access
from rt2.inference.front import Front
from rt2.inference.model import Model

IMAGE = np.zeros((8, 8, 3), np.uint8)
REQUEST = {"image": IMAGE, "instruction": "push"}


class StubPolicy:
    """Moves by the mean of the image; fails or waits when it is told to."""

    def __init__(self, step=3):
        self.metadata = {"dataset": "table", "step": step, "eval_sources": {"path": "/secret/x"}}
        self.metadata |= {"history": 1, "cameras": ["image"]}
        self.step = step
        self.go_on = threading.Event()
        self.entered = threading.Event()
        self.go_on.set()
        self.batches = []

    def infer_batch(self, observations):
        self.entered.set()
        self.batches.append(len(observations))
        if any(row["instruction"] == "fail" for row in observations):
            raise RuntimeError("/secret/place/model.py at 0xdeadbeef")
        assert self.go_on.wait(30)
        return [self.move(row) for row in observations]

    def move(self, observation):
        image = observation["image"]
        image = image["image"] if isinstance(image, dict) else image
        return {
            "actions": np.full((1, 2), np.asarray(image).mean(), np.float32),
            "terminate": False,
            "tokens": np.array([3, 4], np.int32),
            "text": f"0 {self.step}",
            "log_prob": -0.5,
            "timing": {"preprocess_ms": 1.0, "decode_ms": 2.0},
        }


class ThreadedWorker:
    """A model process that is a thread."""

    def __init__(self, end: socket.socket, load):
        self._end = end.dup()
        args = (self._end, load)
        self._thread = threading.Thread(target=worker.answer, args=args, daemon=True)
        self._thread.start()

    def kill(self):
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)


def always(policy):
    """What loads the same policy from anywhere."""
    digest = hashlib.sha256(str(policy.metadata.get("step")).encode()).hexdigest()[:16]
    return lambda path: worker.Loaded(policy, digest, path)


@dataclasses.dataclass
class Served:
    """A running server."""

    front: Front
    loop: asyncio.AbstractEventLoop
    port: int
    rest: int
    stop: asyncio.Event

    def end(self):
        """SIGTERM's effect."""
        self.loop.call_soon_threadsafe(self.stop.set)

    def run(self, awaitable):
        """What a coroutine of the server returns."""
        return asyncio.run_coroutine_threadsafe(awaitable, self.loop).result(30)


@contextlib.contextmanager
def serving(load, keys=(), tls=None, max_batch=1, timeout=30.0, ui=False):
    """A server whose worker loads with `load(path)`; ready when it is yielded."""
    listening, made = threading.Event(), []

    async def run():
        model = Model("somewhere", lambda end: ThreadedWorker(end, load), timeout)
        front, stop = Front(model, Access(tuple(keys)), max_batch), asyncio.Event()

        def up(port, rest):
            made.append(Served(front, asyncio.get_running_loop(), port, rest, stop))
            listening.set()

        page = serve._playground(front) if ui else None
        await serve.run(front, "127.0.0.1", (0, 0), tls, stop, up, page)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert listening.wait(10)
    made[0].run(asyncio.wait_for(_until_ready(made[0].front), 20))
    try:
        yield made[0]
    finally:
        with contextlib.suppress(RuntimeError):  # the loop is closed where a test has stopped it
            made[0].end()
        thread.join(15)
        assert not thread.is_alive()


async def _until_ready(front):
    await front.model.ready.wait()


def client(port, **options):
    """A bare websocket."""
    return connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None, **options)


def ask(connection, request):
    """The reply, or the text of a refusal."""
    connection.send(wire.encode(request))
    told = connection.recv(timeout=20)
    return told if isinstance(told, str) else wire.decode(told)


def get(port, path="/healthz", headers=None):
    """Status and body of a GET."""
    return http(urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers or {}))


def post(port, body, path="/act", headers=None):
    """Status, body and headers of a POST."""
    url = f"http://127.0.0.1:{port}{path}"
    return http(urllib.request.Request(url, body, headers or {}), all=True)


def http(request, all=False):
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            told = response.status, response.read(), response.headers
    except urllib.error.HTTPError as error:
        told = error.code, error.read(), error.headers
    return told if all else told[:2]


def opened(served, key=None):
    """A connection after its greeting, and the greeting."""
    headers = {"Authorization": f"Api-Key {key}"} if key else None
    connection = client(served.port, additional_headers=headers)
    return connection, wire.decode(connection.recv(timeout=20))


def code(told) -> str:
    assert isinstance(told, str), told
    return json.loads(told)["code"]


def grey(value, **more):
    return {"image": np.full((8, 8, 3), value, np.uint8), "instruction": "push", **more}


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
