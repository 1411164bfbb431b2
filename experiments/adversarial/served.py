"""Adversarial requests through the server's two transports, with a policy in a thread of it."""

import base64
import collections
import json

import numpy as np
from websockets.sync.client import ClientConnection

from rt2.inference.policy import Policy
from rt2.inference.worker import warm_up
from tests.inference import adversarial
from tests.inference.serving import always, ask, opened, post, serving

Found = collections.Counter[str]
MISTAKES = ("bad_request", "too_large")  # codes that say it was the client's


def ask_all(policy: Policy, some: list[adversarial.Case], frames: np.ndarray) -> Found:
    """Counts of answered, refused and internal, and of the faults that replies have."""
    for rows in warm_up(policy.metadata, 1):
        policy.infer_batch(rows)
    policy.infer({"image": frames[0], "instruction": "push", "mode": "plan"})
    found = Found()
    with serving(always(policy)) as running:
        for i, case in enumerate(some):
            request = {"instruction": case.text, "mode": case.mode, "deadline_ms": 60_000}
            image = frames[i % len(frames)]
            if i % 2:
                _rest(found, running.rest, request, image, case, policy)
            else:
                connection, _ = opened(running)  # of its own: a bad request ends it
                with connection:
                    _websocket(found, connection, request | {"image": image}, case, policy)
    return found


def _websocket(
    found: Found,
    connection: ClientConnection,
    request: dict,
    case: adversarial.Case,
    policy: Policy,
) -> None:
    try:
        told = ask(connection, request)
    except UnicodeEncodeError:  # the client's own library cannot write it
        found["refused"] += 1
        return
    if isinstance(told, str):
        found["refused" if json.loads(told)["code"] in MISTAKES else "internal"] += 1
        return
    found["answered"] += 1
    reply = {key: told[key] for key in told if key not in ("model", "policy_timing")}
    reply["timing"] = reply.pop("server_timing")
    if "tokens" in reply:
        reply["tokens"] = np.array(reply["tokens"])
    codec, ids = policy.preprocess.codec(), policy.preprocess.vocabulary.ids
    found.update(adversarial.faults(reply, case.mode, codec, ids))


def _rest(
    found: Found,
    port: int,
    request: dict,
    image: np.ndarray,
    case: adversarial.Case,
    policy: Policy,
) -> None:
    array = {"__numpy__": base64.b64encode(image.tobytes()).decode(), "dtype": image.dtype.str}
    request["image"] = array | {"shape": list(image.shape)}
    status, body, _ = post(port, json.dumps(request).encode())
    told = json.loads(body)
    if status != 200:
        found["refused" if told["code"] in MISTAKES else "internal"] += 1
        return
    found["answered"] += 1
    if isinstance(told, str) != (case.mode == "vqa"):
        found["mode"] += 1
    elif case.mode != "vqa":
        action, codec = (
            np.frombuffer(base64.b64decode(told["__numpy__"]), "<f4"),
            policy.preprocess.codec(),
        )
        inside = (action >= np.float32(codec.low)) & (action <= np.float32(codec.high))
        found["value"] += not (action.shape == (codec.spec.dim,) and inside.all())
