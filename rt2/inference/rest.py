"""The HTTP transport: OpenVLA's `POST /act` in json-numpy form, `POST /reload`, health, metrics.

One request a connection. Whoever may not ask is told so before a byte of the body is read, and a
body is read no further than its limit. The answer to /act is the action, a json-numpy array [D];
the headers RT2-Terminate, RT2-Model and RT2-Id say the rest. Where the policy holds there is no
action: status 409, code `hold`. Web pages (`Origin`) are refused, but for the server's own
(`rt2.playground`), which may POST to its own paths alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import secrets
import ssl
import urllib.parse
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from rt2.inference import json_numpy
from rt2.inference.access import allows, is_loopback
from rt2.inference.front import Front, Page
from rt2.inference.refusal import Refusal
from rt2.inference.server import DRAIN_SECONDS, MAX_CONNECTIONS, WRITE_SECONDS, cannot_listen
from rt2.inference.wire import WireError

if TYPE_CHECKING:
    from rt2.playground.playground import Playground

MAX_HEAD = 8192  # bytes of the request line and headers
HEAD_SECONDS, BODY_SECONDS = 5.0, 10.0

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Head:
    """A request's first line and headers, names in lower case."""

    method: str
    path: str
    headers: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        """The values of every header of that name."""
        return [value for key, value in self.headers if key == name]


class RestServer:
    """Serves a front over HTTP/1.1."""

    def __init__(self, front: Front, playground: Playground | None = None):
        self._front, self._playground = front, playground
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[Any]] = set()

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Begins to serve; returns the port."""
        options: dict[str, Any] = {"ssl_handshake_timeout": HEAD_SECONDS} if tls else {}
        try:
            self._server = await asyncio.start_server(
                self._converse, host, port, limit=MAX_HEAD, ssl=tls, **options
            )
        except (OSError, OverflowError) as error:
            raise cannot_listen(host, port, error) from error
        return self._server.sockets[0].getsockname()[1]

    async def drain(self) -> None:
        """Accepts nobody and lets requests in flight finish."""
        self._server.close()
        if self._open:
            await asyncio.wait(self._open, timeout=DRAIN_SECONDS)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._open.add(task)
        try:
            if len(self._open) > MAX_CONNECTIONS:
                writer.transport.abort()
                return
            answer = await self._answer(reader, writer)
            async with asyncio.timeout(WRITE_SECONDS):
                writer.write(answer)
                await writer.drain()
            await _discard(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        try:
            head = await _head(reader)
            if head.method == "GET" and head.path == "/" and self._playground:
                return _written(self._playground.page, self._playground.headers)
            if head.method == "GET":
                return _written(self._front.page(head.path, head.all("authorization")))
            role = self._admit(head)
            body = await _body(reader, writer, head)
            if self._is_own_page(head):
                return _written(await self._playground.answer(role, head.path, body))
            if head.path == "/reload":
                greeting = await self._front.reload()
                return _written(_json(json.dumps({"model": greeting["model"]})))
            return await self._act(role, body)
        except Refusal as refusal:
            return _refused(refusal)
        except (OSError, asyncio.IncompleteReadError):
            raise
        except Exception as error:  # of whatever kind: the client is told, the server lives on
            incident = secrets.token_hex(4)
            log.error("incident %s", incident, exc_info=error)
            return _refused(Refusal("internal", f"internal error, incident {incident}"))

    def _admit(self, head: Head) -> str:
        """The role of whoever posts. Raises Refusal."""
        role = self._front.access.role(head.all("authorization"))
        if role is None:
            raise Refusal("unauthorized", "send the header `Authorization: Api-Key KEY`")
        ours = self._is_own_page(head)
        if head.all("origin") and not (ours and same_origin(head, bool(self._front.access.keys))):
            raise Refusal("forbidden", "web pages may not move a robot")
        if head.method != "POST" or not (ours or head.path in ("/act", "/reload")):
            raise Refusal("not_found", "POST /act or /reload; GET /healthz, /readyz or /metrics")
        if head.path == "/reload" and not (self._front.access.keys and allows(role, "admin")):
            raise Refusal("forbidden", "reloading needs a key with the role admin, or SIGHUP")
        return role

    def _is_own_page(self, head: Head) -> bool:
        return self._playground is not None and head.path in self._playground.paths

    async def _act(self, role: str, body: bytes) -> bytes:
        message, doubly = _asked(body)
        if not self._front.is_ready:
            raise Refusal("unavailable", "the model starts or the server stops", retry_after=2.0)
        session = await self._front.open(role)
        try:
            reply = await self._front.answer(session, message, "rest")
        finally:
            await self._front.close(session)
        if reply.get("hold"):  # the answer has no place for the word
            mass = f"the tokens of actions have {reply['allowed_mass']:.3g} of the probability"
            raise Refusal("hold", f"{mass}; the arm is to stay", about=reply.get("id"))
        text = json_numpy.dumps(reply["actions"][0] if "actions" in reply else reply["text"])
        headers = {"RT2-Model": reply["model"]} | (
            {"RT2-Terminate": str(reply["terminate"]).lower()} if "terminate" in reply else {}
        )
        headers |= {"RT2-Id": reply["id"]} if "id" in reply else {}
        return _written(_json(json.dumps(text) if doubly else text), headers)


def same_origin(head: Head, keys: bool) -> bool:
    """Whether a request comes from a page that this server gave, by the browser's word.

    Without keys the page must have been asked for by an address of this machine: whoever points a
    name of theirs to it gives their page that name.
    """
    origins, hosts = head.all("origin"), head.all("host")
    if len(origins) != 1 or len(hosts) != 1:
        return False
    try:
        host = urllib.parse.urlsplit(f"//{hosts[0]}").hostname or ""
    except ValueError:
        return False
    same = origins[0] in (f"http://{hosts[0]}", f"https://{hosts[0]}")
    return same and (keys or is_loopback(host))


def _asked(body: bytes) -> tuple[Any, bool]:
    """The message in this project's keys; whether it was JSON within JSON, as OpenVLA allows."""
    try:
        message = json_numpy.loads(body)
        doubly = isinstance(message, dict) and set(message) == {"encoded"}
        if doubly:
            if not isinstance(message["encoded"], str):
                raise WireError("encoded: expected a text")
            message = json_numpy.loads(message["encoded"].encode())
    except (WireError, UnicodeEncodeError) as error:
        raise Refusal("bad_request", str(error)) from None
    if isinstance(message, dict) and "unnorm_key" in message:
        if "dataset" in message:
            raise Refusal("bad_request", "unnorm_key and dataset: give one of them alone")
        name = message.pop("unnorm_key")
        message |= {} if name is None else {"dataset": name}
    if isinstance(message, dict) and {"reset", "seq", "arm"} & set(message):
        raise Refusal("bad_request", "reset, seq and arm belong to websocket sessions")
    return message, doubly


async def _head(reader: asyncio.StreamReader) -> Head:
    try:
        async with asyncio.timeout(HEAD_SECONDS):
            text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except TimeoutError:
        raise Refusal("too_slow", f"no request within {HEAD_SECONDS:g} s") from None
    except asyncio.LimitOverrunError:
        raise Refusal("too_large", f"headers of more than {MAX_HEAD} bytes") from None
    first, *lines = text[:-4].split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise Refusal("bad_request", "no HTTP/1.1 request")
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Refusal("bad_request", "a header that is none")
        headers.append((name.lower(), value.strip()))
    return Head(parts[0], parts[1].partition("?")[0], headers)


async def _body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: Head) -> bytes:
    lengths = head.all("content-length")
    digits = len(lengths) == 1 and lengths[0].isascii() and lengths[0].isdigit()
    if head.all("transfer-encoding") or not digits or len(lengths[0]) > 12:
        raise Refusal("bad_request", "give one Content-Length; chunked bodies are not taken")
    if int(lengths[0]) > json_numpy.MAX_BODY:
        raise Refusal("too_large", f"body: at most {json_numpy.MAX_BODY} bytes are taken")
    if "100-continue" in head.all("expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await reader.readexactly(int(lengths[0]))
    except TimeoutError:
        raise Refusal("too_slow", f"no body within {BODY_SECONDS:g} s") from None


async def _discard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads what a refused client still sends for a while, so that it reads the refusal."""
    if writer.can_write_eof():
        writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            while await reader.read(2**16):
                pass


def _json(text: str, status: int = 200) -> Page:
    return Page(status, text.encode(), "application/json")


def _refused(refusal: Refusal) -> bytes:
    later = {} if refusal.retry_after is None else {"Retry-After": f"{refusal.retry_after:.0f}"}
    return _written(_json(refusal.text(), refusal.status), later)


def _written(page: Page, headers: dict[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {int(page.status)} {HTTPStatus(page.status).phrase}"]
    about = {"Content-Type": page.content_type, "Content-Length": str(len(page.body))}
    about |= {"Connection": "close", **(headers or {})}
    lines += [f"{name}: {value}" for name, value in about.items()]
    return "\r\n".join([*lines, "", ""]).encode() + page.body
