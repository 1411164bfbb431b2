"""The model process: loads, verifies and warms policies, and decodes batches for the front.

`python -m rt2.inference.worker FD OPTIONS` is started by `rt2.inference.model` with one end of a
socket; the options of `load` are a JSON object. It ends when the front does. A checkpoint is loaded
in a thread beside the decoding, so that a reload costs no request its reply.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import pathlib
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from rt2.errors import UserError
from rt2.inference import frames, observation
from rt2.inference.access import ServeError
from rt2.inference.decoding import GREEDY, Decoding
from rt2.inference.metadata import public
from rt2.inference.wire import WireError

log = logging.getLogger(__name__)


class Infers(Protocol):
    """What is served: `rt2.inference.policy.Policy`, a bundle's, or anything that answers alike."""

    metadata: dict[str, Any]

    def infer_batch(self, observations: list[dict[str, Any]]) -> list[dict[str, Any]]: ...


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A policy that is ready, what names it, and where it was found."""

    policy: Infers
    digest: str
    folder: str


def answer(connection: socket.socket, load: Callable[[str], Loaded]) -> None:
    """Does what the front says until it hangs up."""
    models: dict[str, Loaded] = {}
    lock = threading.Lock()

    def tell(*messages: Any) -> None:
        with lock:  # of this thread and one that loads
            for message in messages:
                connection.sendall(frames.packed(message))

    def take_up(path: str) -> None:
        try:
            loaded = load(path)
            described = public(loaded.policy.metadata) | {"model": loaded.digest}
            models[loaded.digest] = loaded
            tell({"op": "loaded", "folder": loaded.folder}, described)
        except Exception as error:
            tell({"op": "refused", "message": _reason(error)})

    try:
        while True:
            order = frames.receive(connection)
            if order["op"] == "load":
                threading.Thread(target=take_up, args=(order["path"],), daemon=True).start()
            elif order["op"] == "drop":
                models.pop(order["model"], None)
            else:
                rows = [_row(connection) for _ in range(order["rows"])]
                began = time.perf_counter()
                replies = _infer(models[order["model"]].policy, rows)
                spent = 1e3 * (time.perf_counter() - began)
                tell({"op": "replies", "rows": len(rows), "infer_ms": spent}, *replies)
    except (EOFError, OSError):
        pass  # the front is gone


class Decoder:
    """A checkpoint's policy that chooses tokens as the server was told to."""

    def __init__(self, policy: Any, decoding: Decoding):
        self.metadata = policy.metadata | {"decoding": dataclasses.asdict(decoding)}
        self._policy, self._next = policy, decoding

    def infer_batch(self, observations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As `Policy.infer_batch`; where tokens are drawn, every row has a seed of its own."""
        decoding, self._next = self._next, self._next.after(len(observations))
        return self._policy.infer_batch(observations, decoding)


def load(path: str, max_batch: int, decoding: Mapping[str, Any], weights: str = "f32") -> Loaded:
    """The policy of a checkpoint or a bundle, verified and warm.

    `decoding`: the fields of `Decoding`; `weights`: see `Policy.load`. Raises what the loaders do,
    and ServeError where a bundle is to decode otherwise than its programs do.
    """
    from rt2 import checkpoint
    from rt2.inference.bundle_runtime import Policy as BundlePolicy
    from rt2.inference.policy import Policy

    folder, how = pathlib.Path(path), Decoding(**decoding)
    if (folder / "manifest.json").is_file():
        if how != GREEDY:
            raise ServeError(
                f"{folder} is a bundle, whose programs take the likeliest tokens: serve its "
                "checkpoint, or leave out --temperature, --beams, --hold-below and the like"
            )
        if weights != "f32":
            raise ServeError(
                f"{folder} is a bundle and has the weights that it was exported with: serve its "
                f"checkpoint with --weights={weights}, or leave that out"
            )
        policy, manifest = BundlePolicy.load(folder), (folder / "manifest.json").read_bytes()
    else:
        folder = checkpoint.find(folder)
        policy = Decoder(Policy.load(folder, weights), how)
        saved = checkpoint.read_json(folder, "manifest")
        manifest = json.dumps(saved | {"weights": weights}, sort_keys=True).encode()
    for observations in warm_up(policy.metadata, max_batch):
        policy.infer_batch(observations)
    return Loaded(policy, hashlib.sha256(manifest).hexdigest()[:16], str(folder))


def warm_up(metadata: dict[str, Any], max_batch: int) -> Iterator[list[dict[str, Any]]]:
    """Batches that make a policy compile all that it will run: every kind in every size."""
    size = metadata["image_size"]
    black = np.zeros((size, size, 3), np.uint8)
    blank = {"image": dict.fromkeys(metadata["cameras"], black), "instruction": "wait"}
    rows = [
        blank | {"dataset": name} | ({"state": data["state_low"]} if data["state_low"] else {})
        for name, data in metadata["datasets"].items()
    ]
    plans = [row | {"mode": "plan"} for row in rows if metadata.get("plans")]  # no bundle does
    for row in (*rows, *plans, blank | {"mode": "vqa"}):
        for power in range(max_batch.bit_length()):
            yield [row] * min(2**power, max_batch)


def _row(connection: socket.socket) -> dict[str, Any] | WireError:
    """One observation. The front has checked it; should it be no frame still, this goes on."""
    try:
        return frames.receive(connection)
    except WireError as error:
        return error


def _infer(policy: Infers, rows: list[Any]) -> list[dict[str, Any]]:
    """A reply or an error for each row; a row that cannot be answered spoils no other."""
    try:
        for row in rows:
            if isinstance(row, WireError):
                raise row
        return [{"reply": made} for made in policy.infer_batch(rows)]
    except Exception as error:
        if len(rows) > 1:
            return [_infer(policy, [row])[0] for row in rows]
        return [{"error": _told(error)}]


def _told(error: Exception) -> dict[str, str]:
    """What a client is told: its own mistakes in full, ours by a number that the log has."""
    if isinstance(error, _client_errors()):
        return {"code": "bad_request", "message": str(error)}
    incident = secrets.token_hex(4)
    log.error("incident %s", incident, exc_info=error)
    return {
        "code": "internal",
        "message": f"internal error; the server's log has the details under incident {incident}",
    }


@functools.cache
def _client_errors() -> tuple[type[Exception], ...]:
    from rt2.inference import bundle_runtime
    from rt2.inference.wording import WordingError
    from rt2.preprocess import PreprocessError
    from rt2.tokenizer import TokenizerError

    return (
        WireError,
        observation.ObservationError,
        bundle_runtime.ObservationError,
        PreprocessError,
        TokenizerError,
        WordingError,
    )


def _reason(error: Exception) -> str:
    """Why a policy was not taken up, for the operator alone."""
    from rt2.inference.bundle_runtime import BundleError

    if not isinstance(error, UserError | BundleError):
        log.error("loading failed", exc_info=error)
    return f"{error}"[:2000]


def main() -> None:
    """Serves the front at the other end of the socket with the given number."""
    from rt2.inference.logs import log_json

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they reach the front, which drains and hangs up
    log_json()
    fd, options = sys.argv[1:]
    answer(socket.socket(fileno=int(fd)), functools.partial(load, **json.loads(options)))


if __name__ == "__main__":
    main()
