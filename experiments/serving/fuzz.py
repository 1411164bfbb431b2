"""Hostile messages over both transports, and what came of each."""

import asyncio
import base64
import json
import random
import re
import time
from collections import Counter

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from rt2.inference import json_numpy, wire

LEAK = re.compile(r'Traceback|File "|site-packages|\w+\.py\b|0x[0-9a-f]{6,}|/rt2/|/home/|/usr/')
CODES = {"bad_request", "conflict", "superseded", "deadline", "too_large", "not_found", "forbidden"}
CODES |= {"too_slow"}
HANG = 1.0  # seconds

IMAGE = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)
SEEDS = [
    {"image": IMAGE, "instruction": "push the cup", "id": "a", "deadline_ms": 500},
    {"observation/image": IMAGE, "observation/state": np.zeros(8, np.float32), "prompt": "push"},
    {"images": {"cam_high": IMAGE.transpose(2, 0, 1).copy()}, "state": [0.0] * 7, "prompt": "go"},
    {"image": [IMAGE, IMAGE], "instruction": "which cup?", "mode": "vqa", "dataset": "table"},
    {"reset": True},
]
HOSTILE = [
    *(
        None,
        True,
        -1,
        2**63 - 1,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x" * 9000,
        "\u202e",
        "\x00",
    ),
    *([], {}, [[[[[[1]]]]]], {"a": {"b": {"c": {"d": {"e": 1}}}}}, "../../etc/passwd", "A" * 600),
    *(
        "http://example.org",
        "\ud7ff",
        "e\u0301" * 300,
        IMAGE[:0],
        np.zeros((1,) * 4),
        np.float64("nan"),
    ),
    *(np.zeros(3, bool), np.array(5), {f"k{i}": i for i in range(70)}, list(range(70))),
]


def message(rng: random.Random) -> dict:
    """A seed with some of its values replaced, removed or renamed."""
    made = dict(rng.choice(SEEDS))
    for _ in range(rng.randint(0, 2)):
        key = rng.choice([*made, "seq", "id", "arm", "image", "else"])
        if rng.random() < 0.8:
            made[key] = rng.choice(HOSTILE)
        else:
            made.pop(key, None)
    return made


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with a few cut, added or changed, or others altogether."""
    if rng.random() < 0.05:
        return rng.randbytes(rng.randint(0, 300))
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(changed) + 1)
        changed[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
    if rng.random() < 0.1:
        changed = changed[: rng.randrange(len(changed) + 1)]
    return bytes(changed)


def frame(rng: random.Random) -> bytes | str:
    """A websocket message."""
    if rng.random() < 0.03:
        return "text"
    try:
        data = wire.encode(message(rng))
    except (wire.WireError, ValueError, UnicodeEncodeError):
        return b"\xc1"
    return data if rng.random() < 0.5 else mutated(data, rng)


def body(rng: random.Random) -> bytes:
    """An HTTP request, head included."""
    try:
        data = json_numpy.dumps(message(rng)).encode("utf-8", "surrogatepass")
    except (wire.WireError, TypeError):
        data = base64.b64encode(rng.randbytes(60))
    if rng.random() < 0.5:
        data = mutated(data, rng)
    path = rng.choice(["/act"] * 8 + ["/reload", "/../act"])
    request = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    )
    return mutated(request, rng) if rng.random() < 0.1 else request


class Findings:
    """Counts of outcomes."""

    def __init__(self):
        self.outcomes, self.leaks, self.hangs, self.wrong = Counter(), 0, 0, []

    def add(self, transport: str, told: bytes | str, sent: object, seconds: float) -> None:
        """Judges one answer; `told` is empty where the connection was closed without a word."""
        self.hangs += seconds > HANG
        text = told if isinstance(told, str) else told.decode("latin-1")
        code = _code(told, transport)
        self.outcomes[f"{transport} {code}"] += 1
        self.leaks += bool(LEAK.search(text)) and code != "ok"
        if code not in CODES | {"ok", "closed"}:
            self.wrong.append((code, repr(sent)[:300]))


def _code(told: bytes | str, transport: str) -> str:
    if not told:
        return "closed"
    if transport == "websocket":
        return "ok" if isinstance(told, bytes) else json.loads(told)["code"]
    answer = told.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    head, _, content = answer.partition(b"\r\n\r\n")
    return "ok" if head.split()[1] == b"200" else json.loads(content)["code"]


async def over_websocket(port: int, count: int, seed: int, found: Findings) -> None:
    """Sends `count` messages; connects anew when it is sent away."""
    rng, connection = random.Random(seed), None
    for _ in range(count):
        if connection is None:
            connection = await connect(
                f"ws://127.0.0.1:{port}", compression=None, ping_interval=None
            )
            await connection.recv()
        sent, began, told = frame(rng), time.perf_counter(), b""
        try:
            await connection.send(sent)
            told = await asyncio.wait_for(connection.recv(), 10)
        except ConnectionClosed:
            pass
        found.add("websocket", told, sent, time.perf_counter() - began)
        if not isinstance(told, bytes) or not told:
            await connection.close()
            connection = None
    if connection is not None:
        await connection.close()


async def over_http(port: int, count: int, seed: int, found: Findings) -> None:
    """Sends `count` requests, each on a connection of its own."""
    rng = random.Random(seed)
    for _ in range(count):
        sent, told = body(rng), b""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.perf_counter()
        try:
            writer.write(sent)
            writer.write_eof()  # a length that lies is found out at once
            told = await asyncio.wait_for(reader.read(), 10)
        except ConnectionError:
            pass
        found.add("rest", told, sent, time.perf_counter() - began)
        writer.close()


async def fuzz(port: int, rest: int, count: int, seed: int = 0, clients: int = 4) -> Findings:
    """`count` messages in all, half over each transport, from several clients at once."""
    found, share = Findings(), count // (2 * clients)
    await asyncio.gather(
        *(over_websocket(port, share, seed + i, found) for i in range(clients)),
        *(over_http(rest, share, seed + clients + i, found) for i in range(clients)),
    )
    return found
