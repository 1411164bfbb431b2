"""One robot at one server: python robot.py CLIENT PORT HZ SECONDS [KILL]; prints a JSON object.

CLIENT is `openpi` (the unmodified package, in an environment without jax) or `ours`. With KILL the
server with that process number is killed in mid-run.
"""

import json
import os
import signal
import sys
import threading
import time

import numpy as np

from rt2.robot import loop
from rt2.robot.gate import Gate, Rules
from rt2.robot.limits import rt2_arm
from rt2.robot.watchdog import Watchdog

START = np.array([0.0, 0.0, 0.2, 0.0, 0.0, 0.0, 0.5])


def connected(client: str, port: int):
    """The server's greeting and what asks it."""
    if client == "openpi":
        from openpi_client.websocket_client_policy import WebsocketClientPolicy

        policy = WebsocketClientPolicy("127.0.0.1", port)
        return policy.get_server_metadata(), policy.infer
    from rt2.robot.client import Client

    policy = Client(f"ws://127.0.0.1:{port}")
    return policy.connect(), policy.infer


def main() -> None:
    """Acts, and prints what came of it."""
    client, port, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    greeting, infer = connected(client, port)
    bounds = greeting["datasets"][greeting["dataset"]]
    rng, sent, waits = np.random.default_rng(0), [], []

    def ask(observation):
        began = time.perf_counter()
        reply = infer(observation)
        waits.append(1e3 * (time.perf_counter() - began))
        return reply

    def camera():
        return rng.integers(0, 256, (240, 320, 3), np.uint8)

    limits = rt2_arm((-0.3, -0.3, 0.0), (0.3, 0.3, 0.5))
    rules = Rules(period=1 / rate, silence=2 / rate + 0.1, clips=10**6)
    gate = Gate(
        limits,
        rules,
        bounds["low"],
        bounds["high"],
        lambda command: sent.append((time.monotonic(), command.hold)),
    )
    killed, counts, end = [], {}, time.monotonic() + float(seconds)
    if len(sys.argv) > 5:

        def kill():
            os.kill(int(sys.argv[5]), signal.SIGKILL)
            killed.append(time.monotonic())

        threading.Timer(float(seconds) / 2, kill).start()
    with Watchdog(gate):
        while time.monotonic() < end and not killed:
            gate.arm(START)
            for reason, count in loop.run(
                gate, camera, ask, "move to the cup", end - time.monotonic()
            ).items():
                counts[reason] = counts.get(reason, 0) + count
            while killed and not gate.reason:
                time.sleep(0.005)
    moves = [when for when, hold in sent if not hold]
    held = [when for when, hold in sent if hold and killed and when > killed[0]]
    print(
        json.dumps(
            {
                "counts": counts,
                "rate": (len(moves) - 1) / (moves[-1] - moves[0]),
                "wait_ms": waits,
                "jax": "jax" in sys.modules,
                "hold_after_kill": held[0] - max(moves[-1], killed[0]) if killed else None,
            }
        )
    )


if __name__ == "__main__":
    main()
