"""Does the robot's gate hold, whatever the policy says and whoever dies?

python experiments/robot_gate/run.py            about ten minutes; writes results.json
python experiments/robot_gate/run.py --quick    under a minute, prints only
"""

import argparse
import collections
import datetime
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from rt2.robot.driver import RemoteArm, drive  # noqa: E402
from rt2.robot.gate import Gate, Rules  # noqa: E402
from rt2.robot.watchdog import Watchdog  # noqa: E402
from tests.robot import hostile  # noqa: E402

RULES = Rules(period=0.05, silence=0.15)
STILL = np.array([0, 0, 0, 0, 0, 0, 0.5])
LATE = 0.2  # seconds that a hold may take


def sequences(count: int) -> dict:
    """Hostile episodes, with what they broke and how long a command took the gate."""
    broken, commands, moves = collections.Counter(), 0, 0
    for seed in range(count):
        arm = hostile.sequence(seed)
        broken.update(hostile.violations(arm))
        commands, moves = commands + len(arm.commands), moves + len(arm.moves)
    return {"broken": dict(broken), "commands": commands, "moves": moves}


def gate_times(count: int) -> list[float]:
    """Microseconds of `act` for good actions."""
    gate, _, clock = hostile.gated(Rules(clips=10**9))
    rng, took = np.random.default_rng(0), []
    for number in range(count):
        clock.now += 0.2
        stamp, action = gate.observe(np.array([number])), rng.uniform(hostile.LOW, hostile.HIGH)
        began = time.perf_counter()
        gate.act(action, stamp)
        took.append(1e6 * (time.perf_counter() - began))
    return took


def act_forever(gate: Gate, stalled: threading.Event) -> None:
    """A loop of 20 Hz whose policy never answers again once it is stalled."""
    number = 0
    while not stalled.is_set():
        number += 1
        gate.act(STILL, gate.observe(np.array([number])))
        time.sleep(RULES.period)


def wait_for(events: list, count: int) -> None:
    """Returns when there are `count` events; a hold that does not come in 5 s ends the run."""
    end = time.monotonic() + 5
    while len(events) < count:
        if time.monotonic() > end:
            sys.exit("no hold at all")
        time.sleep(0.002)


def stall(seed: int) -> float:
    """Seconds from the deadline that a stalled policy misses to the hold."""
    holds, stalled = [], threading.Event()
    moved = []

    def send(command):
        (holds if command.hold else moved).append(time.monotonic())

    gate = Gate(hostile.LIMITS, RULES, hostile.LOW, hostile.HIGH, send)
    gate.arm(hostile.START)
    with Watchdog(gate):
        loop = threading.Thread(target=act_forever, args=(gate, stalled))
        loop.start()
        time.sleep(np.random.default_rng(seed).uniform(0.1, 0.2))
        stalled.set()
        loop.join()
        wait_for(holds, 1)
    return holds[0] - (moved[-1] + RULES.silence)


def kill(seed: int, number: int) -> float:
    """Seconds from a signal to a client to the hold by its driver; the client is a process."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        arm = RemoteArm(theirs, 7)
        gate = Gate(hostile.LIMITS, RULES, hostile.LOW, hostile.HIGH, arm.send)
        gate.arm(hostile.START)
        with Watchdog(gate, arm.beat):
            act_forever(gate, threading.Event())
        os._exit(0)
    theirs.close()
    moved, held = threading.Event(), []
    driver = threading.Thread(
        target=drive,
        args=(ours, 7, lambda pose: moved.set(), lambda _: held.append(time.monotonic())),
    )
    driver.start()
    moved.wait(10)
    time.sleep(np.random.default_rng(seed).uniform(0, 0.1))
    early = len(held)
    killed = time.monotonic()
    os.kill(pid, number)
    wait_for(held, early + 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    driver.join(10)
    ours.close()
    return held[early] - killed


def rows(found: dict) -> list[dict]:
    """The findings as result rows."""
    from rt2.evaluate.provenance import commit, machine

    here = machine()
    stamp = {
        "commit": commit(),
        "machine": f"{here['cpu']}, {here['cores']} cores",
        "date": datetime.date.today().isoformat(),
    }

    def row(name, ours, unit, n, interval=None):
        made = {"name": name, "ours": ours, "peer": None, "ratio": None, "unit": unit, "n": n}
        return made | {"interval": interval} | stamp

    made = [
        row("violations", sum(found["broken"].values()), "commands", found["sequences"]),
        row("commands_sent", found["commands"], "commands", found["sequences"]),
        row("moves_let_through", found["moves"], "commands", found["sequences"]),
        row(
            "gate_p99", round(float(np.percentile(found["gate"], 99)), 1), "us", len(found["gate"])
        ),
    ]
    for name in ("stall", "sigkill", "sigstop"):
        took = np.array(found[name])
        late = int((took > LATE).sum())
        made.append(row(f"{name}_held_late", late, "cases", len(took)))
        spread = [round(float(1e3 * np.percentile(took, q)), 1) for q in (50, 99, 100)]
        made.append(row(f"{name}_to_hold_p99", spread[1], "ms", len(took), [spread[0], spread[2]]))
    return made


def main() -> None:
    """Runs all, prints, writes the rows; fails where a limit was broken or a hold came late."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the cases, no file")
    args = parser.parse_args()
    part = 50 if args.quick else 1
    count = 100_000 // part
    found = {"sequences": count, "gate": gate_times(20_000 // part)}
    found |= {"stall": [stall(seed) for seed in range(500 // part)]}
    for name, number in (("sigkill", signal.SIGKILL), ("sigstop", signal.SIGSTOP)):
        found[name] = [kill(seed, number) for seed in range(250 // part)]
    found |= sequences(count)
    made = rows(found)
    for row in made:
        print(
            f"{row['name']:22} {row['ours']} {row['unit']} (n = {row['n']})", row["interval"] or ""
        )
    if not args.quick:
        (HERE / "results.json").write_text(json.dumps(made, indent=2) + "\n", "utf-8")
    if any(row["ours"] for row in made if row["name"].endswith(("violations", "late"))):
        sys.exit("a limit was broken, or a hold came late")


if __name__ == "__main__":
    main()
