"""Answers websocket clients with one policy: the protocol of openpi, bounded and checked.

The server speaks first, with the policy's metadata; then one request frame, one reply frame, in
turn (`rt2.inference.wire`). A request that cannot be answered gets a short text frame and the
connection is closed with 1011, as openpi does. `GET /healthz` answers 200 and needs no token.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hmac
import http
import ipaddress
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from rt2.inference import observation, wire
from rt2.inference.metadata import public
from rt2.preprocess import PreprocessError
from rt2.tokenizer import TokenizerError

MAX_CONNECTIONS = 32  # each has at most one request waiting, so this bounds the queue as well
MAX_MESSAGE = 500  # characters of an error that a client is told
DRAIN_SECONDS = 5.0  # how long requests in flight may take once the server is told to stop

CLIENT_ERRORS = (wire.WireError, observation.ObservationError, PreprocessError, TokenizerError)

log = logging.getLogger(__name__)


class ServeError(ValueError):
    """Settings that the server refuses; the message carries the remedy."""


class Infers(Protocol):
    """What is served: `rt2.inference.policy.Policy`, or anything that answers alike."""

    metadata: dict[str, Any]

    def infer(self, observation: dict[str, Any]) -> dict[str, Any]: ...


class PolicyServer:
    """Serves one policy to many clients; inference runs in one thread of its own.

    So pings, health checks and other clients are answered while the model computes.
    """

    def __init__(self, policy: Infers, token: str | None):
        self._policy, self._token = policy, token
        self._greeting = wire.encode(greeting(policy.metadata))
        self._worker = concurrent.futures.ThreadPoolExecutor(1, "inference")
        self._open: set[ServerConnection] = set()
        self._idle: set[ServerConnection] = set()
        self._stopping = False

    async def run(
        self, host: str, port: int, stop: asyncio.Event, on_listening: Callable[[int], None]
    ) -> None:
        """Serves until `stop` is set, then finishes the requests in flight.

        `on_listening` is given the port, which the system chooses where `port` is 0.
        Raises ServeError where `host` is not this machine alone and there is no token, and
        where the port cannot be had.
        """
        check_exposure(host, self._token)
        server = await self._listen(host, port)
        on_listening(next(iter(server.sockets)).getsockname()[1])
        await stop.wait()
        await self._drain(server)

    async def _listen(self, host: str, port: int) -> Server:
        try:
            return await serve(
                self._converse,
                host,
                port,
                process_request=self._admit,
                origins=[None],  # browsers name an origin: no web page may move the robot
                compression=None,
                max_size=wire.MAX_FRAME,
            )
        except (OSError, OverflowError) as error:
            raise ServeError(
                f"cannot listen on {host}:{port} ({error}); --port=0 picks a free port"
            ) from error

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """A response instead of a websocket, or None to go on with the handshake."""
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        if self._token is not None and not self._authorised(request):
            reason = "Send the header `Authorization: Api-Key KEY` with this server's key.\n"
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, reason)
        if len(self._open) >= MAX_CONNECTIONS:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "Too many clients.\n")
        return None

    def _authorised(self, request: Request) -> bool:
        given = request.headers.get_all("Authorization")
        wanted = f"Api-Key {self._token}".encode()
        return len(given) == 1 and hmac.compare_digest(_raw(given[0]), wanted)

    async def _converse(self, connection: ServerConnection) -> None:
        self._open.add(connection)
        try:
            await connection.send(self._greeting)
            await self._answer_all(connection)
        except ConnectionClosed:
            pass
        finally:
            self._open.discard(connection)
            self._idle.discard(connection)

    async def _answer_all(self, connection: ServerConnection) -> None:
        timing: dict[str, float] = {}
        while not self._stopping:
            self._idle.add(connection)
            frame = await connection.recv()
            self._idle.discard(connection)
            began = time.perf_counter()
            try:
                reply = await self._answer(frame, timing)
            except Exception as error:  # of whatever kind: the client is told, the server lives on
                await connection.send(_told(error))
                await connection.close(1011, "request refused")
                return
            await connection.send(reply)
            timing = {"prev_total_ms": 1e3 * (time.perf_counter() - began)}
        await connection.close(1001, "server is stopping")

    async def _answer(self, frame: str | bytes, timing: dict[str, float]) -> bytes:
        if isinstance(frame, str):
            raise wire.WireError("text frame, expected a binary one (msgpack)")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, self._infer, frame, timing)

    def _infer(self, frame: bytes, timing: dict[str, float]) -> bytes:
        request = observation.read(wire.decode(frame))
        began = time.perf_counter()
        made = self._policy.infer(request)
        infer_ms = 1e3 * (time.perf_counter() - began)
        return wire.encode(reply(made) | {"server_timing": {"infer_ms": infer_ms, **timing}})

    async def _drain(self, server: Server) -> None:
        self._stopping = True
        server.close(close_connections=False)
        idle = [connection.close(1001, "server is stopping") for connection in self._idle]
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await asyncio.gather(*idle)
                await server.wait_closed()
        except TimeoutError:
            log.warning("gave up on requests that took longer than %g s", DRAIN_SECONDS)
        self._worker.shutdown(wait=False, cancel_futures=True)


def greeting(metadata: dict[str, Any]) -> dict[str, Any]:
    """The first frame: what the model is and which keys of an observation it takes."""
    return public(metadata) | {
        "observation": {
            "image": list(observation.IMAGE_KEYS),
            "instruction": list(observation.TEXT_KEYS),
            "state": [*observation.STATE_KEYS, " + ".join(observation.DROID_STATE)],
            "optional": list(observation.PASSED_KEYS),
            "unused": list(observation.UNUSED_KEYS + observation.UNUSED_CAMERAS),
        }
    }


def reply(made: dict[str, Any]) -> dict[str, Any]:
    """A policy's reply in openpi's form.

    `actions` is the only array: openpi's ActionChunkBroker takes row after row of every array in
    a reply, so what has no chunk axis must be plain values.
    """
    timing = {key: float(value) for key, value in made["timing"].items()}
    plain = {
        key: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for key, value in made.items()
        if key not in ("actions", "timing")
    }
    actions = {"actions": made["actions"]} if "actions" in made else {}
    return actions | plain | {"policy_timing": {"infer_ms": sum(timing.values()), **timing}}


def check_exposure(host: str, token: str | None) -> None:
    """Raises ServeError where others than this machine could connect without a token."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False  # a name, or empty for every interface
    if not loopback and token is None:
        raise ServeError(
            f"--host={host}: other machines could move the robot. Give --token-file=FILE (clients "
            "send its content as `Authorization: Api-Key ...`), or keep --host=127.0.0.1"
        )


def _raw(header: str) -> bytes:
    return header.encode("utf-8", "surrogateescape")


def _told(error: Exception) -> str:
    """What a client is told: its own mistakes in full, ours by a number that the log has."""
    if isinstance(error, CLIENT_ERRORS):
        text = str(error)
        return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 3] + "..."
    incident = secrets.token_hex(4)
    log.error("incident %s", incident, exc_info=error)
    return f"internal error; the server's log has the details under incident {incident}"
