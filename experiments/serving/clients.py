"""Many honest clients: does each get its own reply, and only one of them the arm?

Each trial is given a `Stub` and returns figures as {name: number or list of numbers}.
"""

import asyncio
import json
import random
import secrets

import numpy as np
import trials

from rt2.inference import wire

SMALL = np.zeros((8, 8, 3), np.uint8)
WHITE = 255


def marked(number: int) -> dict:
    """A request whose image's brightness is a number below 48,960, told apart to the last digit."""
    pixels = np.zeros(SMALL.size, np.uint8)
    pixels[: number // WHITE] = WHITE
    pixels[number // WHITE] = number % WHITE
    return {"image": pixels.reshape(SMALL.shape), "instruction": "push"}


def crosstalk(stub: trials.Stub, clients: int, count: int) -> dict:
    """Requests of many clients at once, each with a mark and a nonce; whose reply did each get?"""
    wrong, done, names = [], [], set()

    async def client(number: int) -> None:
        rng = random.Random(number)
        async with trials.opened(stub.port) as connection:
            for _ in range(count // clients):
                value, nonce = rng.randrange(SMALL.size * WHITE), secrets.token_hex(8)
                names.add(nonce)
                told = await _served(connection, marked(value) | {"id": nonce})
                mean = np.float32(value / SMALL.size)
                good = told["id"] == nonce and np.isclose(told["actions"][0, 0], mean, rtol=1e-6)
                (done if good and told["model"] == "stub" else wrong).append(nonce)

    async def all_clients() -> None:
        await asyncio.gather(*(client(number) for number in range(clients)))

    asyncio.run(all_clients())
    return {"wrong": len(wrong), "served": len(done) + len(wrong), "nonces": len(names)}


async def _served(connection, request: dict) -> dict:
    """The reply; asks again while the server is busy."""
    while True:
        told, _ = await trials.ask(connection, request)
        if isinstance(told, bytes):
            return wire.decode(told)
        refusal = json.loads(told)
        if refusal["code"] != "busy" or refusal["id"] != request["id"]:
            raise RuntimeError(told)
        await asyncio.sleep(0.002)


def races(stub: trials.Stub, clients: int, count: int) -> dict:
    """Clients that all want one arm at once: how often two got it, and whether fences grow."""
    return asyncio.run(_races(stub, clients, count))


async def _races(stub: trials.Stub, clients: int, count: int) -> dict:
    double, none, fences = 0, 0, []

    async def want(arm: str) -> int:
        connection = await _connected(stub)
        async with connection:
            await asyncio.sleep(0.01)  # all are there before the first one asks
            told, _ = await trials.ask(connection, marked(1) | {"arm": arm})
            await asyncio.sleep(0.05)  # and none leaves before the last one was told
            return wire.decode(told)["fence"] if isinstance(told, bytes) else 0

    for number in range(count):
        arm = "left" if number % 2 else f"arm-{number}"
        told = await asyncio.gather(*(want(arm) for _ in range(clients)))
        granted = [fence for fence in told if fence]
        double, none = double + (len(granted) > 1), none + (not granted)
        fences += granted
    grown = all(one < two for one, two in zip(fences, fences[1:], strict=False))
    return {"double": double, "none": none, "grown": grown}


async def _connected(stub: trials.Stub):
    made = await trials.connect(f"ws://127.0.0.1:{stub.port}", compression=None, max_size=None)
    await made.recv()
    return made


def replays(stub: trials.Stub, count: int) -> dict:
    """Numbers that were sent before, or are older: how many are answered with an action."""
    return asyncio.run(_replays(stub, count))


async def _replays(stub: trials.Stub, count: int) -> dict:
    accepted, rng = 0, random.Random(0)
    async with trials.opened(stub.port) as connection:
        for seq in range(count):
            await trials.ask(connection, marked(seq) | {"seq": 10 * seq})
            old = rng.randint(0, 10 * seq)
            told, _ = await trials.ask(connection, marked(seq) | {"seq": old})
            accepted += isinstance(told, bytes)
    return {"accepted": accepted}


def soak(stub: trials.Stub, clients: int, count: int) -> dict:
    """Requests for a long time: MB that the processes grew by after a tenth, times of both ends."""
    took: list[float] = []

    async def client(number: int) -> None:
        async with trials.opened(stub.port) as connection:
            for _ in range(number):
                told, spent = await trials.ask(connection, marked(7))
                if isinstance(told, str):
                    raise RuntimeError(told)
                took.append(spent)

    async def all_clients(number: int) -> None:
        await asyncio.gather(*(client(number // clients) for _ in range(clients)))

    asyncio.run(all_clients(count // 10))
    before, files = stub.rss(), stub.files()
    asyncio.run(all_clients(count - count // 10))
    return {"grown_mb": stub.rss() - before, "files": stub.files() - files, "ms": took}
