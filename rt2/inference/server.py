"""The websocket transport: the protocol of openpi, bounded and checked.

The server speaks first, with the model's metadata, once a model is ready; then one reply frame for
each request frame (`rt2.inference.wire`). A request that gets no action gets a text frame, JSON
with `code`, `message`, `retry_after` and `id` (`rt2.inference.refusal`); after a bad request or an
error of ours the connection is closed with 1011, as openpi does. A reply with `hold` true is one
where the model meant to say something else than an action: its `actions` move nothing. GET
answers `/healthz`, `/readyz` and `/metrics`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
import time
from http import HTTPStatus

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from rt2.inference import wire
from rt2.inference.access import ServeError, is_loopback
from rt2.inference.front import LIVE, METRICS, READY, Front, Session
from rt2.inference.refusal import Refusal

MAX_CONNECTIONS = 64
MAX_PER_ADDRESS = 16  # of other machines
MAX_SOCKETS = 128  # those that have not said who they are included
MAX_UNANSWERED = 4  # requests of one client; more are read when these are answered
HANDSHAKE_SECONDS = 5.0
PING_SECONDS = (5.0, 10.0)  # between pings, for the pong: also ends who sends or reads too slowly
WRITE_SECONDS = 5.0
DRAIN_SECONDS = 5.0  # how long requests in flight may take once the server is told to stop

log = logging.getLogger(__name__)


class Connection(ServerConnection):
    """A connection with its role, turned away at once where there are too many."""

    role = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        super().connection_made(transport)
        if len(self.server.handler_tasks) > MAX_SOCKETS:
            self.transport.abort()


class WebsocketServer:
    """Serves a front to many clients over websockets."""

    def __init__(self, front: Front):
        self._front = front
        self._open: set[Connection] = set()
        self._idle: set[Connection] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._server: Server | None = None

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Begins to serve; returns the port, which the system chooses where `port` is 0."""
        handshake = {"ssl_handshake_timeout": HANDSHAKE_SECONDS} if tls else {}
        try:
            self._server = await serve(
                self._converse,
                host,
                port,
                ssl=tls,
                **handshake,
                create_connection=Connection,
                process_request=self._admit,
                origins=[None],  # browsers name an origin: no web page may move the robot
                compression=None,
                max_size=wire.MAX_FRAME,
                max_queue=1,
                open_timeout=HANDSHAKE_SECONDS,
                ping_interval=PING_SECONDS[0],
                ping_timeout=PING_SECONDS[1],
                server_header=None,
            )
        except (OSError, OverflowError) as error:
            raise cannot_listen(host, port, error) from error
        return next(iter(self._server.sockets)).getsockname()[1]

    async def drain(self) -> None:
        """Accepts nobody, lets requests in flight finish, tells the others that it goes away."""
        self._server.close(close_connections=False)
        idle = [connection.close(1001, "server is stopping") for connection in self._idle]
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await asyncio.gather(*idle)
                await self._server.wait_closed()
        except TimeoutError:
            log.warning("gave up on requests that took longer than %g s", DRAIN_SECONDS)

    def _admit(self, connection: Connection, request: Request) -> Response | None:
        """A response instead of a websocket, or None to go on with the handshake."""
        authorization = request.headers.get_all("Authorization")
        if request.path in (*LIVE, *READY, METRICS):
            page = self._front.page(request.path, authorization)
            response = connection.respond(page.status, page.body.decode())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = page.content_type
            return response
        role = self._front.access.role(authorization)
        if role is None:
            reason = "Send the header `Authorization: Api-Key KEY` with this server's key.\n"
            return connection.respond(HTTPStatus.UNAUTHORIZED, reason)
        address = connection.remote_address[0]
        near = sum(other.remote_address[0] == address for other in self._open)
        crowded = near >= MAX_PER_ADDRESS and not is_loopback(address)
        if crowded or len(self._open) >= MAX_CONNECTIONS or self._front.stopping:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "Too many clients.\n")
        connection.role = role
        return None

    async def _converse(self, connection: Connection) -> None:
        self._open.add(connection)
        self._idle.add(connection)
        session = None
        try:
            session = await self._session(connection)
            if session is not None:
                await connection.send(wire.encode(self._front.greeting(session)))
                await self._answer_all(connection, session)
        except (ConnectionClosed, Refusal):
            pass
        finally:
            self._open.discard(connection)
            self._idle.discard(connection)
            if session is not None:
                await self._front.close(session)

    async def _session(self, connection: Connection) -> Session | None:
        """A session as soon as a model is ready; None where the client did not wait for it."""
        opening = asyncio.create_task(self._front.open(connection.role))
        gone = asyncio.create_task(connection.wait_closed())
        await asyncio.wait([opening, gone], return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if opening.done():
            return opening.result()
        opening.cancel()
        return None

    async def _answer_all(self, connection: Connection, session: Session) -> None:
        timing: dict[str, float] = {}
        unanswered: set[asyncio.Task[None]] = set()

        def settled(task: asyncio.Task[None]) -> None:
            unanswered.discard(task)
            if not unanswered:
                self._rest(connection)

        try:
            while True:
                frame = await connection.recv()
                self._idle.discard(connection)
                task = asyncio.create_task(self._answer(connection, session, frame, timing))
                unanswered.add(task)
                task.add_done_callback(settled)
                while len(unanswered) >= MAX_UNANSWERED:
                    await asyncio.wait(unanswered, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in unanswered:
                task.cancel()

    def _rest(self, connection: Connection) -> None:
        """Nothing of a client's is under way: when the server stops, it is told so."""
        if connection in self._open:
            self._idle.add(connection)
        if self._front.stopping:
            closing = asyncio.create_task(connection.close(1001, "server is stopping"))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _answer(
        self, connection: Connection, session: Session, frame: str | bytes, timing: dict[str, float]
    ) -> None:
        """Sends the reply to one frame; `timing` is that of the request before."""
        began = time.perf_counter()
        code = 0
        try:
            reply = await self._front.answer(session, _decoded(frame), "websocket")
            reply.setdefault("server_timing", {}).update(timing)
            told: str | bytes = wire.encode(reply)
        except Refusal as refusal:
            told, code = refusal.text(), 1011 if refusal.code in ("bad_request", "internal") else 0
        except Exception as error:  # of whatever kind: the client is told, the server lives on
            incident = secrets.token_hex(4)
            log.error("incident %s", incident, exc_info=error)
            told, code = Refusal("internal", f"internal error, incident {incident}").text(), 1011
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await connection.send(told)
                if code:
                    await connection.close(code, "request refused")
        except ConnectionClosed:
            pass
        except TimeoutError:
            connection.transport.abort()
        timing["prev_total_ms"] = 1e3 * (time.perf_counter() - began)


def _decoded(frame: str | bytes) -> object:
    if isinstance(frame, str):
        raise Refusal("bad_request", "text frame, expected a binary one (msgpack)")
    try:
        return wire.decode(frame)
    except wire.WireError as error:
        raise Refusal("bad_request", str(error)) from None


def cannot_listen(host: str, port: int, error: Exception) -> ServeError:
    """The error of a taken port or an address that is not there."""
    return ServeError(f"cannot listen on {host}:{port} ({error}); port 0 picks a free one")
