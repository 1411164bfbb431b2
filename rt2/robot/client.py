"""A client of `rt2.inference.serve` that never waits for ever and never takes an old reply.

Needs websockets and msgpack. One request at a time; every request has an id, a number that only
grows and a deadline, and a reply is taken only with the id asked for.
"""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from rt2.errors import UserError
from rt2.inference import wire

BACK_OFF = (0.1, 2.0)  # seconds between attempts to connect: at first, at most


class NoReplyError(UserError):
    """No reply in time, or none at all: hold and ask again with a new observation."""


class RefusedError(UserError):
    """The server's own words. `code` is one word (busy, deadline, bad_request, ...)."""

    def __init__(self, code: str, message: str, retry_after: float | None):
        super().__init__(f"{code}: {message}")
        self.code, self.retry_after = code, retry_after


class Client:
    """Asks for actions; connects by itself, again where it must, and checks who answers.

    `check(greeting)` is called at every connection and raises where the server is not the one the
    robot was set up for (`rt2.robot.contract.check`). `tls` is needed for wss:// with a private
    certificate; `arm` names the arm that no other client may then move.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout: float = 1.0,
        check: Callable[[Mapping[str, Any]], None] = lambda greeting: None,
        tls: ssl.SSLContext | None = None,
        arm: str | None = None,
    ):
        self._url, self._timeout, self._check, self._tls = url, timeout, check, tls
        self._headers = {"Authorization": f"Api-Key {token}"} if token else {}
        self._lease = {"arm": arm} if arm else {}
        self._connection: ClientConnection | None = None
        self._wait, self._not_before = BACK_OFF[0], 0.0
        self._name, self._seq = secrets.token_hex(8), 0
        # so that sending to a server that reads nothing ends as well
        self._timeval = struct.pack("ll", int(timeout), int(1e6 * (timeout % 1)))
        self.greeting: dict[str, Any] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self, timeout: float = 60.0) -> dict[str, Any]:
        """The greeting of the server, once its model is ready.

        Raises NoReplyError where there is none in time, and what `check` raises.
        """
        self.close()
        try:
            self._connection = connect(
                self._url,
                ssl=self._tls,
                additional_headers=self._headers,
                compression=None,
                max_size=wire.MAX_FRAME,
                open_timeout=timeout,
                close_timeout=self._timeout,
            )
            self._connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, self._timeval)
            greeting = wire.decode(self._connection.recv(timeout))
        except (OSError, TimeoutError, ConnectionClosed, InvalidHandshake, wire.WireError) as error:
            self._lost()
            raise NoReplyError(f"{self._url}: no server ({error})") from error
        self._wait = BACK_OFF[0]
        return self._accept(greeting)

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to one observation, with its arrays, within the timeout.

        Raises NoReplyError and RefusedError; the connection is made anew when it has to be, with
        growing pauses.
        """
        reply = self._ask(dict(observation))
        if reply.get("model") != self.greeting.get("model"):
            self.close()
            raise NoReplyError("the server changed its model within a session")
        return reply

    def reset(self) -> dict[str, Any]:
        """Begins an episode: the greeting of the model that the server has now, checked.

        Where the client was given an `arm`, `fence` in it is the number of its lease, for
        `Gate.arm`. Raises as `infer` and `connect` do.
        """
        return self._accept(self._ask({"reset": True}))

    def _accept(self, greeting: dict[str, Any]) -> dict[str, Any]:
        """The greeting, once it has passed the check; nothing is asked of a model that has not."""
        try:
            self._check(greeting)
        except Exception:
            self.close()
            raise
        self.greeting = greeting
        return greeting

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + self._timeout
        if self._connection is None:
            if time.monotonic() < self._not_before:
                raise NoReplyError(f"{self._url}: waiting before the next attempt to connect")
            self.connect(self._timeout)
        self._seq += 1
        asked = f"{self._name}-{self._seq}"
        left = max(1, int(1e3 * (deadline - time.monotonic())))
        message |= {"id": asked, "seq": self._seq, "deadline_ms": left, **self._lease}
        try:
            self._connection.send(wire.encode(message))
            return self._reply(asked, deadline)
        except TimeoutError:
            raise NoReplyError(f"no reply within {self._timeout:g} s") from None
        except (OSError, ConnectionClosed, wire.WireError) as error:
            self._lost()
            raise NoReplyError(f"the connection was lost ({error})") from error

    def close(self) -> None:
        """Ends the connection; the next request makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _reply(self, asked: str, deadline: float) -> dict[str, Any]:
        while True:
            frame = self._connection.recv(max(0.0, deadline - time.monotonic()))
            if isinstance(frame, str):
                _raise_refusal(frame, asked)
                continue
            reply = wire.decode(frame)
            if isinstance(reply, dict) and reply.get("id") == asked:
                return reply  # another is that of a request that was given up

    def _lost(self) -> None:
        self.close()
        self._not_before = time.monotonic() + self._wait
        self._wait = min(2 * self._wait, BACK_OFF[1])


def _raise_refusal(frame: str, asked: str) -> None:
    try:
        told = json.loads(frame)
        code, message, about = told["code"], told["message"], told.get("id")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        code, message, about, told = "unreadable", frame[:200], asked, {}
    if about in (None, asked):
        raise RefusedError(str(code), str(message), told.get("retry_after"))
