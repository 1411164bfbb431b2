"""How the processes of a run find each other before anything else: they call at process 0."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator

from rt2.train.line import HostsError, Line, Peer

RETRY = 0.2  # seconds between two attempts to reach process 0


def open_line(address: str, count: int, process: int, wait: float) -> Line:
    """The line of `process` of `count`, once all have come to `address` (HOST:PORT of process 0).

    Raises HostsError after `wait` seconds, naming on every process who is missing.
    """
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + wait
    if process:
        return _call(host, int(port), count, process, wait, deadline)
    with _listener(int(port)) as listener:
        peers = _roll_call(listener, address, count, wait, deadline)
    launch = uuid.uuid4().hex[:8]
    for peer in peers.values():
        peer.send(launch=launch)
    return Line(0, count, peers, launch)


def _listener(port: int) -> socket.socket:
    try:
        if socket.has_dualstack_ipv6():
            family = {"family": socket.AF_INET6, "dualstack_ipv6": True}
            return socket.create_server(("", port), backlog=1024, **family)
        return socket.create_server(("", port), backlog=1024)
    except OSError as error:
        raise HostsError(
            f"process 0 cannot listen on port {port} ({error}). Another run may use it: choose "
            "another port in --coordinator"
        ) from error


def _roll_call(
    listener: socket.socket, address: str, count: int, wait: float, deadline: float
) -> dict[int, Peer]:
    peers: dict[int, Peer] = {}
    try:
        while len(peers) < count - 1:
            _admit(_accept(listener, deadline), peers, count)
    except TimeoutError:
        here = {0: f"0 ({socket.gethostname()})"} | {i: peers[i].name[8:] for i in sorted(peers)}
        missing = ", ".join(str(i) for i in range(count) if i not in here)
        reason = (
            f"{len(here)} of {count} processes came to {address} within {wait:.0f} s: "
            f"{', '.join(here.values())}. Missing: {missing}. Check that each was started (under "
            "SLURM with srun), with the same coordinator and number of processes, that its host "
            f"reaches {address} (name, firewall), and what its own log says"
        )
        for peer in peers.values():
            peer.send(failed=reason)
        raise HostsError(reason) from None
    return peers


def _accept(listener: socket.socket, deadline: float) -> Peer:
    listener.settimeout(max(deadline - time.monotonic(), 0.001))
    connection, _ = listener.accept()
    connection.settimeout(5)
    return Peer(connection)


def _admit(peer: Peer, peers: dict[int, Peer], count: int) -> None:
    hello = peer.receive()
    if not isinstance(hello, dict) or set(hello) != {"process", "count", "host"}:
        peer.connection.close()  # not one of ours
        return
    peer.connection.settimeout(None)
    i = hello["process"]
    peer.name = f"process {i} ({hello['host']})"
    reason = None
    if hello["count"] != count:
        reason = f"{peer.name} was started as one of {hello['count']} processes, 0 of {count}"
    elif i in peers:
        reason = f"two processes were started as number {i}: {peer.name} and {peers[i].name}"
    if reason:
        for other in (peer, *peers.values()):
            other.send(failed=reason)
        raise HostsError(reason)
    peers[i] = peer


def _call(host: str, port: int, count: int, process: int, wait: float, deadline: float) -> Line:
    name = socket.gethostname()
    for problem in _attempts(deadline):
        try:
            peer = Peer(socket.create_connection((host, port), timeout=5))
        except OSError as error:
            problem.append(error)
            continue
        peer.connection.settimeout(wait + 5)
        peer.send(process=process, count=count, host=name)
        reply = peer.receive()
        if reply is None:  # another program's port, or process 0 was killed
            problem.append("the connection was closed")
            continue
        if "failed" in reply:
            raise HostsError(reply["failed"])
        peer.connection.settimeout(None)
        return Line(process, count, {0: peer}, reply["launch"])
    raise HostsError(
        f"process {process} ({name}) did not reach process 0 at {host}:{port} within {wait:.0f} s "
        f"({problem[-1]}). Check that process 0 was started there, and that this host reaches it "
        "(name, port, firewall)"
    )


def _attempts(deadline: float) -> Iterator[list]:
    """The list of problems so far, again and again until `deadline`."""
    problems: list = []
    while not problems or time.monotonic() < deadline:
        yield problems
        time.sleep(RETRY)
