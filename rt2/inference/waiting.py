"""The queue before the model: bounded, newest first of each client, expired work thrown away."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from rt2.inference.refusal import Refusal


@dataclasses.dataclass(eq=False)
class Waiting:
    """One request on its way to the model."""

    session: object
    kind: tuple[str, ...]  # rows of one batch have the same
    observation: dict[str, Any]
    reply: asyncio.Future[dict[str, Any]]  # done, by its deadline, where nobody waits any more


class Queue:
    """At most `limit` requests, in the order in which they came."""

    def __init__(self, limit: int):
        self._limit, self._rows = limit, list[Waiting]()
        self.filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, row: Waiting, retry_after: float) -> None:
        """Adds a request; a client's older one gives way. Raises Refusal (busy) when full."""
        self._rows = [waiting for waiting in self._rows if not waiting.reply.done()]
        for older in [waiting for waiting in self._rows if waiting.session is row.session]:
            self._rows.remove(older)
            older.reply.set_exception(Refusal("superseded", "a newer observation came"))
        if len(self._rows) >= self._limit:
            raise Refusal("busy", f"{self._limit} requests wait already", retry_after)
        self._rows.append(row)
        self.filled.set()

    def take(self, most: int) -> list[Waiting]:
        """The oldest request and those that go with it; what has expired goes nowhere."""
        alive = [row for row in self._rows if not row.reply.done()]
        taken = [row for row in alive if row.kind == alive[0].kind][:most]
        self._rows = [row for row in alive if row not in taken]
        if not self._rows:
            self.filled.clear()
        return taken
