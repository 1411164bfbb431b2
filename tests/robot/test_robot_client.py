"""Client, contract, driver and loop, against servers that misbehave on purpose."""

import contextlib
import json
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from websockets.sync.server import serve

from rt2.inference import wire
from rt2.robot import contract, driver, loop
from rt2.robot.client import Client, NoReplyError, RefusedError
from rt2.robot.gate import Gate, Rules
from rt2.robot.watchdog import Watchdog
from tests.robot.hostile import HIGH, LIMITS, LOW, START

GREETING = {
    "model": "a1",
    "tokenizer": "t",
    "action_vocabulary": "integer",
    "image_size": 64,
    "history": 1,
    "cameras": ["image"],
    "datasets": {"arm": {"slots": ["dx"], "units": ["m"], "low": [-1.0], "high": [1.0]}},
}
SEEN = {"image": np.zeros((2, 2, 3), np.uint8), "instruction": "push"}


@contextlib.contextmanager
def server(converse, greeting=GREETING):
    """The address of a server that greets and then talks as `converse(connection)` does."""

    def greet(connection):
        connection.send(wire.encode(greeting))
        converse(connection)

    with serve(greet, "127.0.0.1", 0, compression=None) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{running.socket.getsockname()[1]}"
        running.shutdown()


def told(request, **changes):
    made = {"id": request["id"], "model": "a1", "actions": np.zeros((1, 7), np.float32)}
    return wire.encode(made | changes)


def echo(connection):
    for frame in connection:
        connection.send(told(wire.decode(frame)))


def test_every_request_has_an_id_a_growing_number_and_a_deadline():
    requests = []

    def converse(connection):
        for frame in connection:
            requests.append(wire.decode(frame))
            connection.send(told(requests[-1]))

    with server(converse) as url, Client(url) as client:
        replies = [client.infer(SEEN) for _ in range(3)]
    assert [r["actions"].shape for r in replies] == [(1, 7)] * 3
    assert [r["seq"] for r in requests] == [1, 2, 3] and len({r["id"] for r in requests}) == 3
    assert all(0 < r["deadline_ms"] <= 1000 for r in requests)


def test_a_late_reply_is_never_taken_for_the_next_one():
    def converse(connection):
        first = wire.decode(connection.recv())
        second = wire.decode(connection.recv())
        connection.send(told(first, actions=np.ones((1, 7))))
        connection.send(told(second))

    with server(converse) as url, Client(url, timeout=0.1) as client:
        with pytest.raises(NoReplyError, match="within 0.1 s"):
            client.infer(SEEN)
        assert not client.infer(SEEN)["actions"].any()


def test_refusals_carry_their_code():
    busy = {"code": "busy", "message": "later", "retry_after": 0.5}

    def converse(connection):
        wire.decode(connection.recv())
        connection.send(json.dumps(busy | {"id": "another"}))
        connection.send(json.dumps(busy))

    with server(converse) as url, Client(url) as client:
        with pytest.raises(RefusedError, match="later") as refused:
            client.infer(SEEN)
    assert (refused.value.code, refused.value.retry_after) == ("busy", 0.5)


@pytest.mark.parametrize("frame", ["no json", "[]", '{"code": 1}', b"\xc1", b"\x80"])
def test_senseless_replies_are_no_replies(frame):
    def converse(connection):
        connection.recv()
        connection.send(frame)

    with server(converse) as url, Client(url, timeout=0.3) as client:
        with pytest.raises((RefusedError, NoReplyError)):
            client.infer(SEEN)


def test_it_connects_again_and_checks_again_who_answers():
    models = iter(["a1", "a1", "b2"])
    greeting = dict(GREETING)
    pinned = contract.terms(GREETING, "arm")

    def converse(connection):
        connection.send(told(wire.decode(connection.recv())))
        greeting["model"] = next(models)

    with server(converse, greeting) as url:
        with Client(url, check=lambda given: contract.check(given, pinned)) as client:
            client._wait = 0.0
            client.infer(SEEN)
            lost = 0
            with pytest.raises(contract.ContractError, match="model.*'b2'"):
                while lost < 20:
                    try:
                        client.infer(SEEN)
                    except NoReplyError:
                        lost, client._not_before = lost + 1, 0.0
            assert client._connection is None  # nothing is asked of the other model


def test_it_waits_between_attempts():
    client = Client("ws://127.0.0.1:1", timeout=0.2)
    for reason in ("no server", "waiting before the next attempt"):
        with pytest.raises(NoReplyError, match=reason):
            client.infer(SEEN)


def test_another_model_in_mid_session_is_no_reply():
    with server(lambda c: c.send(told(wire.decode(c.recv()), model="b2"))) as url:
        with Client(url) as client, pytest.raises(NoReplyError, match="changed its model"):
            client.infer(SEEN)


PINNED = contract.terms(GREETING, "arm")


@pytest.mark.parametrize("name", [*contract.MODEL_FIELDS, *GREETING["datasets"]["arm"]])
def test_every_field_of_the_contract_counts(name):
    other = json.loads(json.dumps(GREETING))
    place = other if name in other else other["datasets"]["arm"]
    place[name] = [place[name], "another"]
    with pytest.raises(contract.ContractError, match=name):
        contract.check(other, PINNED)
    contract.check(GREETING, PINNED)


def test_another_data_set_is_refused_and_so_is_a_greeting_without_a_field():
    with pytest.raises(contract.ContractError, match="dataset"):
        contract.check(GREETING | {"datasets": {}}, PINNED)
    with pytest.raises(contract.ContractError, match="history"):
        contract.check({k: v for k, v in GREETING.items() if k != "history"}, PINNED)


def noise():
    return np.random.default_rng().integers(0, 256, (4, 4, 3), np.uint8)


def test_the_loop_moves_the_arm_and_holds_without_a_reply():
    sent, asked = [], []

    def ask(observation):
        asked.append(observation)
        if len(asked) == 3:
            raise RuntimeError("no")
        return {"actions": np.array([[0.01, 0, 0, 0, 0, 0, 0.5]]), "terminate": len(asked) == 5}

    gate = Gate(LIMITS, Rules(period=0.02), LOW, HIGH, sent.append)
    gate.arm(START)
    with Watchdog(gate):
        counts = loop.run(gate, noise, ask, "push", 5.0)
    assert counts == {
        "moved": 3,
        "no reply: RuntimeError": 1,
        "the policy has ended the episode": 1,
    }
    assert [command.hold for command in sent] == [False] * 3 + [True]
    assert asked[0]["instruction"] == "push"


def test_the_loop_holds_where_the_policy_does_and_latches_where_it_goes_on():
    sent, asked = [], []

    def ask(_):
        asked.append(1)
        if len(asked) == 2:
            raise RefusedError("hold", "nothing was said of the gripper", None)
        moved = np.array([[0.01, 0, 0, 0, 0, 0, 0.5]])
        return {"actions": moved, "terminate": len(asked) > 4, "hold": len(asked) > 3}

    gate = Gate(LIMITS, Rules(period=0.02, silence=0.2), LOW, HIGH, sent.append)
    gate.arm(START)
    with Watchdog(gate):
        counts = loop.run(gate, noise, ask, "push", 5.0)
    assert counts["moved"] == 2 and counts["no reply: hold"] == 1
    assert counts["the policy holds"] >= 3  # a hold that says "terminate" ends nothing
    assert gate.reason == "no good action for 0.2 s"
    assert [command.hold for command in sent[:3]] == [False, False, True]
    assert all(command.hold for command in sent[2:])
    np.testing.assert_array_equal(sent[-1].pose, sent[1].pose)


def test_the_watchdog_stops_an_arm_whose_policy_hangs():
    sent, release = [], threading.Event()
    gate = Gate(LIMITS, Rules(silence=0.1), LOW, HIGH, sent.append)
    gate.arm(START)
    with Watchdog(gate):
        acting = threading.Thread(
            target=loop.run, args=(gate, noise, lambda _: release.wait(20) or {}, "push", 5.0)
        )
        acting.start()
        while not gate.reason:
            pass
        assert sent[-1].hold and "no good action" in gate.reason
        release.set()
        acting.join(20)
    assert [command.hold for command in sent] == [True]


class Driver(threading.Thread):
    """`drive` in a thread, with what it told the arm."""

    def __init__(self, fence=0):
        self.client, self._mine = socket.socketpair()
        self.told, self.fence, self._first = [], None, fence
        super().__init__(daemon=True)
        self.start()

    def run(self):
        self.fence = driver.drive(
            self._mine, 7, lambda pose: self.told.append(pose.copy()), self.told.append, self._first
        )
        self._mine.close()


def test_a_driver_moves_where_the_gate_says_and_holds_when_the_client_goes():
    running = Driver()
    arm = driver.RemoteArm(running.client, 7)
    gate = Gate(LIMITS, Rules(), LOW, HIGH, arm.send)
    gate.arm(START, fence=7)
    gate.act(np.zeros(7), gate.observe(noise()))
    arm.beat()
    gate.stop()
    running.client.close()
    running.join(10)
    np.testing.assert_array_equal(running.told[0], gate._pose)
    assert running.told[1:] == ["told to", "the client is gone"] and running.fence == 7


def test_a_driver_holds_when_the_client_falls_silent():
    running = Driver()
    driver.RemoteArm(running.client, 7)._write(driver.MOVE, START)
    while len(running.told) < 2:
        pass
    assert running.told[1].startswith("no sign of life")


@pytest.mark.parametrize(
    "fence, kind, pose",
    [(6, driver.MOVE, START), (8, 9, START), (8, driver.MOVE, START * np.nan)],
    ids=["an older lease", "an unknown kind", "NaN"],
)
def test_a_driver_obeys_no_frame_that_is_not_good(fence, kind, pose):
    running = Driver(fence=7)
    arm = driver.RemoteArm(running.client, 7)
    arm._fence = fence
    arm._write(kind, pose)
    running.join(10)
    assert len(running.told) == 1 and "a frame of an older client" in running.told[0]


def test_the_robot_side_loads_neither_jax_nor_the_models():
    code = (
        "import sys, rt2.robot.loop, rt2.robot.watchdog, rt2.robot.driver, rt2.robot.contract\n"
        "print(*[m for m in ('jax', 'tensorflow', 'websockets', 'msgpack') if m in sys.modules])\n"
        "import rt2.robot.client\n"
        "print(*[m for m in ('jax', 'tensorflow', 'rt2.models', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
