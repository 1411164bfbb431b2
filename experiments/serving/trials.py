"""What a server is put through: load, slow and too many clients, kills, oversized frames, stops.

Each trial is given a `Stub` and returns figures as {name: number or list of numbers}.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from rt2.inference import wire

HERE = Path(__file__).resolve().parent
IMAGE = np.zeros((224, 224, 3), np.uint8)
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
REQUEST = {"image": IMAGE, "instruction": "push"}


class Stub:
    """The stub server as a process of its own."""

    def __init__(self, milliseconds: float, max_batch: int):
        command = [sys.executable, HERE / "stub_server.py", str(milliseconds), str(max_batch)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.port, self.rest, self.pid = map(int, self.process.stdout.readline().split())
        self.wait_ready()

    def __enter__(self) -> "Stub":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.process.stdout.close()

    def wait_ready(self) -> float:
        """Seconds until /readyz says so."""
        began = time.monotonic()
        while self.get("/readyz") != 200:
            time.sleep(0.02)
        return time.monotonic() - began

    def get(self, path: str) -> int:
        """The status of a page."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}{path}", timeout=10) as page:
                return page.status
        except urllib.error.HTTPError as error:
            return error.code

    @property
    def worker(self) -> int:
        """The process number of the model process."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    def rss(self) -> float:
        """MB of the front process."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) / 1e3

    def files(self) -> int:
        """Open file descriptors of the front process."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@contextlib.asynccontextmanager
async def opened(port: int, **options):
    """A websocket that has read its greeting."""
    async with connect(
        f"ws://127.0.0.1:{port}", compression=None, max_size=None, **options
    ) as made:
        await made.recv()
        yield made


async def ask(connection, request=REQUEST) -> tuple[str | bytes, float]:
    """What the server tells, and the milliseconds it took."""
    began = time.perf_counter()
    await connection.send(wire.encode(request))
    return await connection.recv(), 1e3 * (time.perf_counter() - began)


def under_load(stub: Stub, clients: int, seconds: float) -> dict:
    """Clients in a closed loop, and a health check every 20 ms."""
    served, refused = [], []

    async def client(end: float) -> None:
        async with opened(stub.port) as connection:
            while time.monotonic() < end:
                told, took = await ask(connection)
                (refused if isinstance(told, str) else served).append(took)
                if isinstance(told, str):
                    await asyncio.sleep(0.2)

    async def all_clients(end: float) -> None:
        await asyncio.gather(*(client(end) for _ in range(clients)))

    watch = [sys.executable, HERE / "health.py", str(stub.port), str(seconds)]
    watcher = subprocess.Popen(watch, stdout=subprocess.PIPE, text=True)
    asyncio.run(all_clients(time.monotonic() + seconds))
    health = json.loads(watcher.communicate()[0])
    return {"served_ms": served, "refused_ms": refused, "health_ms": health}


def kills(stub: Stub, count: int) -> dict:
    """The model process killed or stopped in mid-traffic; how long until it is ready again."""
    recovered, late, stop = [], 0, threading.Event()

    async def traffic() -> int:
        hung = 0
        while not stop.is_set():
            try:
                async with opened(stub.port) as connection:
                    while not stop.is_set():
                        _, took = await ask(connection, {**REQUEST, "deadline_ms": 3000})
                        hung += took > 3500
            except (ConnectionClosed, OSError):
                pass
        return hung

    def run() -> None:
        nonlocal late
        late = asyncio.run(traffic())

    client = threading.Thread(target=run)
    client.start()
    for number in range(count):
        time.sleep(0.3)
        os.kill(stub.worker, signal.SIGKILL if number % 2 else signal.SIGSTOP)
        began = time.monotonic()
        while stub.get("/readyz") == 200:
            time.sleep(0.005)
        stub.wait_ready()
        recovered.append(time.monotonic() - began)
    stop.set()
    client.join(20)
    return {"recovery_s": recovered, "past_deadline": late}


def slow_clients(stub: Stub, count: int, seconds: float) -> dict:
    """Clients that send a byte a second, in the head, the body or a frame; and one good client."""
    alone = asyncio.run(_good(stub, seconds / 2))
    ended: list[float] = []
    threads = [threading.Thread(target=_slow, args=(stub, i, ended)) for i in range(count)]
    for thread in threads:
        thread.start()
    beside = asyncio.run(_good(stub, seconds))
    for thread in threads:
        thread.join(60)
    return {"alone_ms": alone, "beside_ms": beside, "slow_gone_s": ended}


async def _good(stub: Stub, seconds: float) -> list[float]:
    took, end = [], time.monotonic() + seconds
    async with opened(stub.port) as connection:
        while time.monotonic() < end:
            took.append((await ask(connection))[1])
    return took


def _slow(stub: Stub, number: int, ended: list[float]) -> None:
    kind = number % 3
    first = (b"GET / HT", b"POST /act HTTP/1.1\r\nContent-Length: 99\r\n\r\n", UPGRADE)[kind]
    port = (stub.port, stub.rest, stub.port)[kind]
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(first)
        if kind == 2:  # a frame of 65,536 bytes, of which some come; pings are not answered
            connection.sendall(b"\x82\xff" + struct.pack(">Q", 65536) + b"mask")
        connection.settimeout(1.0)
        while time.monotonic() - began < 60:
            try:
                connection.sendall(b"x")
                told = connection.recv(65536)
                if told == b"" or (kind < 2 and b" 408 " in told):
                    break
            except TimeoutError:
                pass
            except OSError:
                break
    ended.append(time.monotonic() - began)


def crowd(stub: Stub, count: int) -> dict:
    """Many connections that say nothing: descriptors of the server, at most and afterwards."""
    before = stub.files()
    sockets = []
    for _ in range(count):
        sockets.append(socket.create_connection(("127.0.0.1", stub.port)))
    time.sleep(0.5)
    most = stub.files()
    alive = asyncio.run(_alive_later(stub))
    for connection in sockets:
        connection.close()
    return {"files": [before, most, stub.files()], "served_after": alive}


async def _alive_later(stub: Stub) -> int:
    await asyncio.sleep(6)  # those who said nothing are gone
    async with opened(stub.port) as connection:
        return int(isinstance((await ask(connection))[0], bytes))


def oversized(stub: Stub) -> dict:
    """A frame of 256 MiB, sent to its end: MB that the server grew by, and the close code."""
    before, most, told = stub.rss(), 0.0, b""
    with socket.create_connection(("127.0.0.1", stub.port), timeout=5) as connection:
        connection.sendall(UPGRADE)
        while b"__ndarray__" not in told and b"observation" not in told:  # of the greeting
            told += connection.recv(65536)
        told = b""
        try:
            connection.sendall(b"\x82\xff" + struct.pack(">Q", 2**28) + b"mask")
            for _ in range(2**12):
                connection.sendall(bytes(2**16))
                most = max(most, stub.rss())
        except OSError:
            pass
        with contextlib.suppress(OSError):
            told = connection.recv(65536)
    most = max(most, stub.rss())
    code = int.from_bytes(told[2:4], "big") if told[:1] == b"\x88" else 0
    return {"grown_mb": most - before, "code": code}


def stops(count: int) -> dict:
    """SIGTERM with one client at work and one idle: whether both were told, and the seconds."""
    told, took = 0, []
    for _ in range(count):
        with Stub(100, 1) as stub:
            told += asyncio.run(_stopped(stub, took)) and stub.process.wait(10) == 0
    return {"told": told, "seconds": took}


async def _stopped(stub: Stub, took: list[float]) -> bool:
    async with opened(stub.port) as busy, opened(stub.port) as idle:
        await busy.send(wire.encode(REQUEST))
        await asyncio.sleep(random.uniform(0.01, 0.08))
        stub.process.terminate()
        began = time.monotonic()
        reply, codes = await busy.recv(), []
        for connection in (busy, idle):
            try:
                await connection.recv()
            except ConnectionClosed as closed:
                codes.append(closed.rcvd and closed.rcvd.code)
        await asyncio.to_thread(stub.process.wait, 10)
        took.append(time.monotonic() - began)
        return isinstance(reply, bytes) and codes == [1001, 1001]
