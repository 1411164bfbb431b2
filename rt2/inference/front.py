"""What all transports share: sessions, the queue, batches, health and metrics.

No model runs in this process: `rt2.inference.model` has one of its own, so that health checks and
refusals are answered while it computes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from typing import Any

import numpy as np

from rt2.inference import observation, request
from rt2.inference.access import Access, allows
from rt2.inference.history import History
from rt2.inference.metrics import CONTENT_TYPE, Metrics
from rt2.inference.model import LostError, Model
from rt2.inference.refusal import Refusal
from rt2.inference.waiting import Queue, Waiting

BATCH_WAIT = 0.002  # seconds for which a batch may wait for other clients' requests
LIVE, READY, METRICS = ("/healthz", "/health"), ("/readyz", "/ready"), "/metrics"

log = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class Session:
    """One connection: its role, its model, its frames, its last number, its last actions by set."""

    role: str
    model: str
    history: History
    seq: int = -1
    moved: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Page:
    """The answer to a GET."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class Front:
    """Answers requests of any transport with the model's actions, in batches."""

    def __init__(self, model: Model, access: Access, max_batch: int):
        self.model, self.access, self.metrics = model, access, Metrics()
        self.stopping = False
        self._max_batch = max_batch
        self._queue = Queue(max_batch)  # one batch waits while one is decoded
        self._sessions: set[Session] = set()
        self._leases: dict[str, tuple[Session, int]] = {}
        self._fence = time.time_ns()  # above those of any run before
        self._batch_seconds = 0.1

    async def run(self) -> None:
        """Keeps the model alive and feeds it until cancelled. Raises what `Model.run` raises."""
        feeding = asyncio.create_task(self._feed())
        try:
            await self.model.run()
        finally:
            feeding.cancel()

    async def open(self, role: str) -> Session:
        """A session with the current model, as soon as there is one."""
        await self.model.ready.wait()
        session = Session(role, self.model.current, self._no_history())
        self.model.use(session.model)
        self._sessions.add(session)
        return session

    async def close(self, session: Session) -> None:
        """Ends a session: its model may be dropped and its arms taken by others."""
        self._sessions.discard(session)
        self._leases = {arm: held for arm, held in self._leases.items() if held[0] is not session}
        await self.model.release(session.model)

    def greeting(self, session: Session) -> dict[str, Any]:
        """What a client is told first: what the model is and which keys it takes."""
        if session.model not in self.model.greetings:
            raise Refusal("unavailable", "the model starts again; connect anew", retry_after=2.0)
        return self.model.greetings[session.model] | {
            "observation": {
                "image": list(observation.IMAGE_KEYS),
                "instruction": list(observation.TEXT_KEYS),
                "state": [*observation.STATE_KEYS, " + ".join(observation.DROID_STATE)],
                "optional": [*observation.PASSED_KEYS, *observation.FLAG_KEYS, *request.KEYS],
                "unused": list(observation.WRIST_KEYS + observation.OTHER_CAMERAS),
            }
        }

    async def answer(self, session: Session, message: Any, transport: str) -> dict[str, Any]:
        """The reply to a decoded message. Raises Refusal, with the id that the client gave."""
        began, code, asked = time.perf_counter(), "ok", None
        try:
            asked = request.read(message, self._cameras(session))
            reply = await self._answer(session, asked)
            return reply if asked.id is None else {"id": asked.id, **reply}
        except Refusal as refusal:
            code = refusal.code
            refusal.about = refusal.about or (asked and asked.id)
            raise
        finally:
            self.metrics.requests.labels(transport, code).inc()
            self.metrics.seconds.observe(time.perf_counter() - began)

    async def reload(self) -> dict[str, Any]:
        """Takes up the newest checkpoint. Raises Refusal; the one in use then stays."""
        try:
            greeting = await self.model.reload()
        except Refusal:
            self.metrics.reloads.labels("refused").inc()
            raise
        self.metrics.reloads.labels("ok").inc()
        log.info("new sessions get model %s, step %s", greeting["model"], greeting.get("step"))
        return greeting

    def page(self, path: str, authorization: list[str]) -> Page:
        """The answer to GET: health for anybody, metrics for whoever has a key."""
        if path in LIVE:
            return Page(200, b"OK\n")
        if path in READY:
            return Page(200, b"ready\n") if self.is_ready else Page(503, b"not ready\n")
        if self.access.role(authorization) is None:
            return Page(401, b"Send the header `Authorization: Api-Key KEY` with a key.\n")
        if path == METRICS:
            self.metrics.sessions.set(len(self._sessions))
            self.metrics.waiting.set(len(self._queue))
            self.metrics.ready.set(self.is_ready)
            self.metrics.restarts.set(self.model.restarts)
            return Page(200, self.metrics.text(), CONTENT_TYPE)
        return Page(404, b"Not found. Pages: /healthz, /readyz, /metrics.\n")

    @property
    def is_ready(self) -> bool:
        """Whether a request would be answered now."""
        return self.model.ready.is_set() and not self.stopping

    async def _answer(self, session: Session, asked: request.Request) -> dict[str, Any]:
        if self.stopping:
            raise Refusal("going_away", "the server is stopping")
        self._check_order(session, asked)
        if not allows(session.role, asked.needs):
            raise Refusal("forbidden", f"mode: a key of the role {session.role} may ask alone")
        echoed: dict[str, Any] = {} if asked.seq is None else {"seq": asked.seq}
        if asked.arm is not None:
            echoed["fence"] = self._lease(asked.arm, session)
        if asked.reset:
            await self._reset(session)
            return self.greeting(session) | echoed
        return await self._decoded(session, asked) | echoed

    def _check_order(self, session: Session, asked: request.Request) -> None:
        if asked.seq is None:
            return
        if asked.seq <= session.seq:
            raise Refusal("conflict", f"seq: {asked.seq} after {session.seq}; a number comes once")
        session.seq = asked.seq

    def _cameras(self, session: Session) -> list[str]:
        greeting = self.model.greetings.get(session.model)
        return greeting["cameras"] if greeting else ["image"]  # no model: refused after the reading

    def _no_history(self) -> History:
        greeting = self.model.greetings[self.model.current]
        return History(greeting["history"], greeting["cameras"])

    async def _reset(self, session: Session) -> None:
        session.moved.clear()
        session.history = self._no_history()
        if self.model.current != session.model:
            before, session.model = session.model, self.model.current
            self.model.use(session.model)
            await self.model.release(before)

    def _lease(self, arm: str, session: Session) -> int:
        """The fencing number of the one session that may move an arm; it grows with every grant."""
        holder, fence = self._leases.get(arm, (None, 0))
        if holder is None:
            self._fence = fence = self._fence + 1
            self._leases[arm] = session, fence
        elif holder is not session:
            raise Refusal("conflict", "arm: another client moves it", retry_after=1.0)
        return fence

    async def _decoded(self, session: Session, asked: request.Request) -> dict[str, Any]:
        if not self.model.ready.is_set():
            raise Refusal("unavailable", "the model starts", retry_after=2.0)
        greeting = self.model.greetings.get(session.model)
        if greeting is None:
            raise Refusal(
                "unavailable", "this session's model is gone; connect anew", retry_after=0.0
            )
        loop = asyncio.get_running_loop()
        deadline, reply = loop.time() + asked.seconds, loop.create_future()
        kind = (session.model, *asked.kind)
        row = Waiting(session, kind, session.history.shown(asked.observation), reply)
        self._queue.put(row, retry_after=round(2 * self._batch_seconds, 3))
        try:
            async with asyncio.timeout_at(deadline):
                return self._settled(session, greeting, asked, await reply)
        except TimeoutError:
            raise Refusal("deadline", f"no action within {asked.seconds:g} s") from None

    def _settled(
        self,
        session: Session,
        greeting: dict[str, Any],
        asked: request.Request,
        reply: dict[str, Any],
    ) -> dict[str, Any]:
        """The reply as it is sent: where it holds, its action moves nothing in anybody's hands."""
        if "actions" not in reply:
            return reply
        dataset = asked.observation.get("dataset", greeting["dataset"])
        before = session.moved.get(dataset)
        if not reply.get("hold"):
            session.moved[dataset] = reply["actions"][-1]
            return reply
        self.metrics.holds.inc()
        return reply | {"actions": still(greeting["datasets"][dataset]["relative"], before)}

    async def _feed(self) -> None:
        """Gives the model one batch after the other."""
        while True:
            await self._queue.filled.wait()
            if len(self._sessions) > len(self._queue) < self._max_batch:
                await asyncio.sleep(BATCH_WAIT)
            rows = self._queue.take(self._max_batch)
            try:
                if rows:
                    await self._decode(rows)
            except Exception:  # a mistake of ours in one batch must not end all others
                log.exception("a batch was lost")
                for row in rows:
                    if not row.reply.done():
                        row.reply.set_exception(Refusal("internal", "internal error"))

    async def _decode(self, rows: list[Waiting]) -> None:
        began = time.perf_counter()
        model = rows[0].kind[0]
        try:
            made, spent = await self.model.infer(model, [row.observation for row in rows])
        except LostError:
            made, spent = [{"error": None}] * len(rows), 0.0
        self._batch_seconds = time.perf_counter() - began
        self.metrics.rows.observe(len(rows))
        self.metrics.model_ms.set(spent)
        for row, outcome in zip(rows, made, strict=True):
            if row.reply.done():  # its deadline has passed
                continue
            if "reply" in outcome:
                row.reply.set_result(reply_of(outcome["reply"], model, spent))
            else:
                row.reply.set_exception(_refused(outcome["error"]))


def still(relative: list[bool], before: np.ndarray | None) -> np.ndarray:
    """The action float32 [1, D] that leaves an arm where it is.

    Zero where numbers are changes, and what was said before where they are places. Raises Refusal
    (hold) where nothing was: the place is the robot's to know.
    """
    if before is None and not all(relative):
        raise Refusal(
            "hold", "the model meant to say something else than an action, and there is none before"
        )
    stays = np.zeros(len(relative)) if before is None else np.where(relative, 0, before)
    return stays.astype(np.float32)[None]


def _refused(error: dict[str, str] | None) -> Refusal:
    if error is None:
        return Refusal(
            "unavailable", "the model process was lost; it starts again", retry_after=2.0
        )
    return Refusal(error["code"], error["message"])


def reply_of(made: dict[str, Any], model: str, infer_ms: float) -> dict[str, Any]:
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
    return (
        actions
        | plain
        | {
            "model": model,
            "policy_timing": {"infer_ms": sum(timing.values()), **timing},
            "server_timing": {"infer_ms": infer_ms},
        }
    )
