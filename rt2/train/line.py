"""A line between the processes of a run, open from the roll call to the end.

XLA's collectives wait for ever, or abort without a reason, when a process is missing, fails or is
killed. On this line (one TCP connection from every process to process 0, a JSON object a line) the
processes count themselves before the first step, compare what must be equal, and tell each other
why one of them ends. A killed process closes its connection; a host that loses power is noticed by
TCP's keepalive.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

from rt2.errors import UserError
from rt2.train.differences import differences, short

KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 4}  # seconds, seconds, times
AGAIN = 75  # exit code: start the same command again (EX_TEMPFAIL of sysexits.h)


class HostsError(UserError):
    """A process that is missing, differs from the others or ended; the message says which."""


class Peer:
    """The other end of a connection."""

    def __init__(self, connection: socket.socket):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            if hasattr(socket, option):  # Linux
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self.connection = connection
        self.name = "process 0"
        self.inbox: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = connection.makefile("r", encoding="utf-8")

    def send(self, **message: Any) -> None:
        """Sends, or does nothing if the other end is gone: the listener notices that."""
        with contextlib.suppress(OSError):
            self.connection.sendall((json.dumps(message) + "\n").encode())

    def receive(self) -> dict[str, Any] | None:
        """The next message; None at the end of the connection."""
        try:
            text = self._reader.readline()
            return json.loads(text) if text.endswith("\n") else None
        except (OSError, ValueError):
            return None


class Line:
    """The open line of one process. `launch` is a name of this start, equal on all processes."""

    def __init__(self, process: int, count: int, peers: Mapping[int, Peer], launch: str):
        self.process, self.count, self.launch = process, count, launch
        self._peers = dict(peers)
        self._open = True
        for peer in self._peers.values():
            threading.Thread(target=self._listen, args=(peer,), daemon=True).start()

    def compare(self, facts: Mapping[str, Any]) -> None:
        """Waits until all processes have come here; `facts` (as JSON) must be equal on all.

        Raises HostsError that names the first differences from process 0, by process and field.
        """
        facts = json.loads(json.dumps(facts))
        if self.process:
            self._peers[0].send(facts=facts)
            self._peers[0].inbox.get()
            return
        rows = []
        for peer in self._peers.values():
            theirs = peer.inbox.get()["facts"]
            rows += [
                f"  {peer.name} has {path} {short(other)}, process 0 {short(own)}"
                for path, own, other in differences(facts, theirs)
            ]
        if rows:
            raise HostsError(
                "the processes differ:\n"
                + "\n".join(rows[:8])
                + (f"\n  ... and {len(rows) - 8} more" if len(rows) > 8 else "")
                + "\nStart all with the same code, config, environment and data"
            )
        for peer in self._peers.values():
            peer.send(facts=None)

    def fail(self, reason: str) -> None:
        """Tells the others why this process ends; they end too, and are not to start again."""
        self._open = False
        name = f"process {self.process} ({socket.gethostname()})"
        for peer in self._peers.values():
            peer.send(failed=f"{name}: {reason}", code=1)

    def close(self) -> None:
        """Tells the others that this process has come to its end as it should."""
        self._open = False
        for peer in self._peers.values():
            peer.send(ended=True)

    def _listen(self, peer: Peer) -> None:
        while (message := peer.receive()) is not None:
            if "ended" in message:
                return
            if "failed" in message:
                self._give_up(message["failed"], message["code"])
            peer.inbox.put(message)
        self._give_up(
            f"{peer.name} ended without a word: killed, out of memory, or its host is gone; its "
            "own log may say more. Start all processes again: the run goes on from its newest "
            "checkpoint",
            AGAIN,
        )

    def _give_up(self, reason: str, code: int) -> None:
        if not self._open:
            return
        self._open = False
        for peer in self._peers.values():  # process 0 passes it on
            peer.send(failed=reason, code=code)
        print(f"rt2.train: {reason}", file=sys.stderr, flush=True)
        os._exit(code)  # the main thread may wait inside a collective that cannot end


ALONE = Line(0, 1, {}, "")
