"""Camera, policy, gate, arm: one loop of 3 to 5 Hz that holds whenever anything is not as it was.

`ask` is any client's `infer`: `rt2.robot.client.Client`, or openpi's `WebsocketClientPolicy`.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rt2.robot.gate import Gate


def run(
    gate: Gate,
    camera: Callable[[], np.ndarray],
    ask: Callable[[dict[str, Any]], Mapping[str, Any]],
    instruction: str,
    seconds: float,
) -> dict[str, int]:
    """Acts until `seconds` have passed or the gate latches; counts commands, by reason of holds.

    The period is the gate's (`Rules.period`). The gate must be armed and watched
    (`rt2.robot.watchdog`): while `ask` waits, the watchdog alone can stop the arm.
    """
    counts: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + seconds
    while not gate.reason and time.monotonic() < end:
        began = time.monotonic()
        frame = camera()
        stamp = gate.observe(frame)
        try:
            reply = ask({"image": frame, "instruction": instruction})
            actions, terminate = list(reply["actions"]), bool(reply.get("terminate", False))
            hold = bool(reply.get("hold", False))
        except Exception as error:  # of whatever client, of whatever kind: no reply, no motion
            code = vars(error).get("code")  # the server's own word, with our client
            why = code if isinstance(code, str) else type(error).__name__
            counts[f"no reply: {why}"] += 1
            actions = []
        for row, action in enumerate(actions):
            command = gate.act(action, dataclasses.replace(stamp, row=row), terminate, hold)
            counts[command.reason or "moved"] += 1
            if command.hold:
                break
            _sleep_until(began + (row + 1) * gate.rules.period)
        _sleep_until(began + gate.rules.period)
    return dict(counts)


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))
