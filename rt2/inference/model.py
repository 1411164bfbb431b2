"""The front's view of the model process: started, watched, started again, reloaded."""

from __future__ import annotations

import asyncio
import collections
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Protocol

from rt2.inference import frames
from rt2.inference.access import ServeError
from rt2.inference.refusal import Refusal

BACK_OFF = (0.2, 10.0)  # seconds before a new start: at first, at most
MAX_VERSIONS = 2  # models held at once: the newest, and one that sessions still use

log = logging.getLogger(__name__)


class LostError(Exception):
    """The model process ended, or did not answer in time."""


class Process(Protocol):
    """What `spawn` returns."""

    def kill(self) -> None: ...


def spawn(end: socket.socket, options: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Starts the model process with one end of a socket; it loads with `options`, plain values."""
    command = [sys.executable, "-m", "rt2.inference.worker", str(end.fileno()), json.dumps(options)]
    return subprocess.Popen(command, pass_fds=[end.fileno()], stdin=subprocess.DEVNULL)


class Model:
    """One model process at a time; `current` names the model that new sessions get.

    A reload loads the newest checkpoint below `path` beside the model in use; sessions keep theirs
    until they end or reset (`use`, `release`).
    """

    def __init__(self, path: str, start: Callable[[socket.socket], Process], timeout: float):
        self._path, self._start, self._timeout = path, start, timeout
        self._good = path  # the folder that was loaded last: what a new process starts with
        self.current: str | None = None
        self.greetings: dict[str, dict[str, Any]] = {}
        self.ready = asyncio.Event()
        self.restarts = 0
        self._uses: collections.Counter[str] = collections.Counter()
        self._loading: asyncio.Future[dict[str, Any]] | None = None
        self._decoding: asyncio.Future[tuple[list[dict], float]] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Keeps a model process alive until it is cancelled.

        Raises ServeError where the very first one cannot load the checkpoint.
        """
        pause = BACK_OFF[0]
        while True:
            try:
                await self._live()
            except (LostError, OSError) as error:
                log.error("the model process was lost (%s); the next starts in %g s", error, pause)
            if self.ready.is_set():
                pause = BACK_OFF[0]
            self.ready.clear()
            self.restarts += 1
            await asyncio.sleep(pause)
            pause = min(2 * pause, BACK_OFF[1])

    async def infer(self, model: str, rows: list[dict[str, Any]]) -> tuple[list[dict], float]:
        """A reply or an error for each row, and the milliseconds it took.

        Raises LostError where the process ends, or takes longer than its timeout and is killed.
        """
        if self._writer is None or model not in self.greetings:
            raise LostError("no model process")
        self._decoding = asyncio.get_running_loop().create_future()
        order = {"op": "infer", "model": model, "rows": len(rows)}
        try:
            async with asyncio.timeout(self._timeout):
                await self._tell(order, *rows)
                return await self._decoding
        except TimeoutError:
            self._process.kill()
            raise LostError(f"no answer within {self._timeout:g} s; killed") from None

    async def reload(self) -> dict[str, Any]:
        """The greeting of the newest model, from now on that of new sessions.

        Raises Refusal where it cannot be loaded; the model in use stays.
        """
        if not self.ready.is_set() or self._loading is not None:
            raise Refusal("unavailable", "a model is being loaded", retry_after=5.0)
        if len(self.greetings) >= MAX_VERSIONS:
            others = sum(n for name, n in self._uses.items() if name != self.current)
            raise Refusal(
                "conflict", f"{others} sessions still use an earlier model; they reset or end first"
            )
        return await self._load(self._path)

    def use(self, model: str) -> None:
        """Keeps a model loaded for one more session."""
        self._uses[model] += 1

    async def release(self, model: str) -> None:
        """Ends one session's use of a model."""
        self._uses[model] -= 1
        try:
            await self._drop_unused()
        except LostError:
            pass  # the next process starts with the newest alone

    async def _live(self) -> None:
        """One model process, from its start to its end."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = self._start(theirs)
        reader, self._writer = await asyncio.open_connection(sock=ours)
        listening = asyncio.create_task(self._listen(reader))
        try:
            await self._first()
            await listening
        finally:
            self._process.kill()
            listening.cancel()
            self._writer.close()
            self._writer = None
            self.greetings.clear()

    async def _first(self) -> None:
        try:
            await self._load(self._good)
        except Refusal as refusal:
            if self.current is None:
                raise ServeError(refusal.message) from None
            raise LostError(refusal.message) from None
        self.ready.set()

    async def _load(self, path: str) -> dict[str, Any]:
        self._loading = asyncio.get_running_loop().create_future()
        try:
            await self._tell({"op": "load", "path": path})
            told = await self._loading
        except LostError:
            raise Refusal("unavailable", "the model process ended while it loaded") from None
        finally:
            self._loading = None
        if told["op"] == "refused":
            log.error("not loaded: %s", told["message"])
            raise Refusal("conflict", told["message"])
        greeting = told["greeting"]
        self.current, self._good = greeting["model"], told["folder"]
        self.greetings[self.current] = greeting
        await self._drop_unused()
        return greeting

    async def _drop_unused(self) -> None:
        for model in [m for m in self.greetings if m != self.current and self._uses[m] <= 0]:
            del self.greetings[model]
            await self._tell({"op": "drop", "model": model})

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Hands on what the process says. Raises LostError at its end, to whoever waits as well."""
        try:
            while True:
                told = await frames.read(reader)
                if told["op"] == "replies":
                    rows = [await frames.read(reader) for _ in range(told["rows"])]
                    _settle(self._decoding, (rows, told["infer_ms"]))
                elif told["op"] == "loaded":
                    _settle(self._loading, told | {"greeting": await frames.read(reader)})
                else:
                    _settle(self._loading, told)
        except (asyncio.IncompleteReadError, OSError, ValueError) as error:
            for waiting in (self._loading, self._decoding):
                if waiting is not None and not waiting.done():
                    waiting.set_exception(LostError("it ended"))
            raise LostError(f"it ended: {error}") from None

    async def _tell(self, *messages: dict[str, Any]) -> None:
        if self._writer is None:
            raise LostError("no model process")
        for message in messages:
            self._writer.write(frames.packed(message))
        try:
            await self._writer.drain()
        except OSError as error:
            raise LostError(str(error)) from None


def _settle(waiting: asyncio.Future[Any] | None, told: Any) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(told)
