"""Load, order, roles, crashes and reloads, as clients meet them."""

import json
import re
import threading
import time

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from rt2.inference import wire, worker
from rt2.robot.client import Client, RefusedError
from tests.inference.serving import (
    REQUEST,
    StubPolicy,
    always,
    ask,
    client,
    get,
    post,
    serving,
)

KEYS = [("ask", "q" * 16), ("act", "k" * 16), ("admin", "a" * 16)]


@pytest.fixture
def stub():
    return StubPolicy()


@pytest.fixture
def served(stub):
    with serving(always(stub)) as running:
        yield running


def opened(served, role=None):
    key = dict(KEYS).get(role)
    headers = {"Authorization": f"Api-Key {key}"} if key else None
    connection = client(served.port, additional_headers=headers)
    return connection, wire.decode(connection.recv(timeout=20))


def code(told) -> str:
    assert isinstance(told, str), told
    return json.loads(told)["code"]


def grey(value, **more):
    return {"image": np.full((8, 8, 3), value, np.uint8), "instruction": "push", **more}


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_reply_names_its_request_and_its_model(served):
    connection, greeting = opened(served)
    with connection:
        reply = ask(connection, grey(1, id="r.1", seq=4))
        assert (reply["id"], reply["seq"], reply["model"]) == ("r.1", 4, greeting["model"])
        told = json.loads(ask(connection, {**grey(1), "id": "r.2", "state": [float("nan")]}))
        assert (told["code"], told["id"]) == ("bad_request", "r.2")


BAD = {
    "id": {"id": "a b"},
    "id.": {"id": 7},
    "seq": {"seq": -1},
    "seq.": {"seq": True},
    "deadline_ms": {"deadline_ms": 0},
    "deadline_ms.": {"deadline_ms": 1e3},
    "arm": {"arm": "x" * 65},
    "reset": {"reset": 1},
}


@pytest.mark.parametrize("field", BAD)
def test_what_is_said_beside_the_observation_is_checked(served, field):
    connection, _ = opened(served)
    with connection:
        told = json.loads(ask(connection, grey(1, **BAD[field])))
    assert told["code"] == "bad_request" and told["message"].startswith(field.rstrip("."))


def test_requests_of_many_clients_are_decoded_together_and_not_mixed_up(stub):
    stub.go_on.clear()
    with serving(always(stub), max_batch=4) as served:
        connections = [opened(served)[0] for _ in range(5)]
        connections[0].send(wire.encode(grey(0, id="0")))
        assert stub.entered.wait(10)
        for number, connection in enumerate(connections[1:], 1):
            connection.send(wire.encode(grey(10 * number, id=str(number))))
        until(lambda: len(served.front._queue) == 4)
        stub.go_on.set()
        replies = [wire.decode(connection.recv(timeout=20)) for connection in connections]
        for connection in connections:
            connection.close()
    assert stub.batches == [1, 4]
    assert [reply["actions"].tolist()[0][0] for reply in replies] == [0, 10, 20, 30, 40]
    assert [reply["id"] for reply in replies] == list("01234")


def test_rows_of_another_mode_wait_for_a_batch_of_their_own(stub):
    stub.go_on.clear()
    with serving(always(stub), max_batch=4) as served:
        connections = [opened(served)[0] for _ in range(3)]
        connections[0].send(wire.encode(grey(0)))
        assert stub.entered.wait(10)
        connections[1].send(wire.encode(grey(1, mode="vqa")))
        until(lambda: len(served.front._queue) == 1)
        connections[2].send(wire.encode(grey(2)))
        until(lambda: len(served.front._queue) == 2)
        stub.go_on.set()
        for connection in connections:
            connection.recv(timeout=20)
            connection.close()
    assert stub.batches == [1, 1, 1]


def test_a_row_that_fails_spoils_no_other(stub):
    stub.go_on.clear()
    with serving(always(stub), max_batch=2) as served:
        (first, _), (second, _), (third, _) = (opened(served) for _ in range(3))
        first.send(wire.encode(REQUEST))
        assert stub.entered.wait(10)
        second.send(wire.encode({**REQUEST, "instruction": "fail"}))
        third.send(wire.encode(grey(9)))
        until(lambda: len(served.front._queue) == 2)
        stub.go_on.set()
        assert code(second.recv(timeout=20)) == "internal"
        assert wire.decode(third.recv(timeout=20))["actions"][0, 0] == 9
        for connection in (first, second, third):
            connection.close()


def test_a_row_that_the_worker_cannot_read_spoils_no_other(served):
    rows = [grey(1), {"state": list(range(65))}]
    made, _ = served.run(served.front.model.infer(served.front.model.current, rows))
    assert made[0]["reply"]["actions"][0, 0] == 1 and made[1]["error"]["code"] == "bad_request"
    assert served.front.model.restarts == 0


def test_beyond_the_queue_clients_are_told_when_to_come_again(stub, served):
    stub.go_on.clear()
    connections = [opened(served)[0] for _ in range(3)]
    connections[0].send(wire.encode(grey(0)))
    assert stub.entered.wait(10)
    connections[1].send(wire.encode(grey(1)))
    until(lambda: len(served.front._queue) == 1)
    told = json.loads(ask(connections[2], grey(2)))
    assert told["code"] == "busy" and told["retry_after"] > 0
    stub.go_on.set()
    assert all("actions" in wire.decode(c.recv(timeout=20)) for c in connections[:2])
    assert "actions" in ask(connections[2], grey(2))
    for connection in connections:
        connection.close()


def test_a_newer_observation_takes_the_place_of_an_older_one(stub, served):
    stub.go_on.clear()
    connection, _ = opened(served)
    with connection:
        for number in range(3):
            connection.send(wire.encode(grey(number, id=str(number))))
            until(lambda: stub.entered.is_set())
        told = json.loads(connection.recv(timeout=20))
        assert (told["code"], told["id"]) == ("superseded", "1")
        stub.go_on.set()
        assert [wire.decode(connection.recv(timeout=20))["id"] for _ in range(2)] == ["0", "2"]


def test_what_has_expired_never_reaches_the_model(stub, served):
    stub.go_on.clear()
    busy, _ = opened(served)
    late, _ = opened(served)
    busy.send(wire.encode(grey(0)))
    assert stub.entered.wait(10)
    assert code(ask(late, grey(1, deadline_ms=50))) == "deadline"
    stub.go_on.set()
    assert "actions" in wire.decode(busy.recv(timeout=20))
    assert "actions" in ask(late, grey(2))
    busy.close(), late.close()
    assert stub.batches == [1, 1]


def test_a_number_comes_once(served):
    connection, _ = opened(served)
    with connection:
        assert ask(connection, grey(1, seq=5))["seq"] == 5
        for seq in (5, 4, 0):
            assert code(ask(connection, grey(1, seq=seq))) == "conflict"
        assert ask(connection, grey(1, seq=6))["seq"] == 6


def test_an_arm_has_one_master_and_the_next_has_a_higher_number(served):
    first, _ = opened(served)
    second, _ = opened(served)
    fence = ask(first, grey(1, arm="left"))["fence"]
    assert ask(first, grey(1, arm="left"))["fence"] == fence
    assert code(ask(second, grey(1, arm="left"))) == "conflict"
    assert ask(second, grey(1, arm="right"))["fence"] > fence
    first.close()
    until(lambda: "left" not in served.front._leases)
    assert ask(second, grey(1, arm="left"))["fence"] > fence + 1
    second.close()


def test_roles_on_every_route():
    stub = StubPolicy()
    with serving(always(stub), KEYS) as served:
        may = {}
        for role, key in KEYS:
            headers = {"Authorization": f"Api-Key {key}"}
            with opened(served, role)[0] as connection:
                acts = ask(connection, grey(1))
                asks = ask(connection, grey(1, mode="vqa"))
            body = b'{"image": 1}'
            may[role] = (
                "text" if isinstance(acts, dict) else code(acts),
                isinstance(asks, dict),
                post(served.rest, body, "/reload", headers)[0],
                get(served.port, "/metrics", headers)[0],
                get(served.rest, "/metrics", headers)[0],
            )
        assert may == {
            "ask": ("forbidden", True, 403, 200, 200),
            "act": ("text", True, 403, 200, 200),
            "admin": ("text", True, 200, 200, 200),
        }
        for headers in ({}, {"Authorization": "Api-Key " + "z" * 16}):
            for path in ("/act", "/reload", "/else"):
                assert post(served.rest, b"{}", path, headers)[0] == 401
            assert get(served.rest, "/metrics", headers)[0] == 401
            assert get(served.port, "/metrics", headers)[0] == 401
            assert get(served.port, "/readyz", headers)[0] == 200


def test_nobody_reloads_over_the_network_without_a_key(served):
    assert post(served.rest, b"", "/reload")[0] == 403


class Versions:
    """Loads version after version; a damaged one when told to."""

    def __init__(self):
        self.count, self.damaged, self.folders = 0, False, []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, path):
        from rt2.errors import UserError

        self.folders.append(path)
        assert self.gate.wait(20)
        if self.damaged:
            raise UserError("/secret/step: damaged")
        self.count += 1
        return worker.Loaded(StubPolicy(self.count), f"digest{self.count}", f"folder{self.count}")


def test_a_session_keeps_its_model_until_it_resets():
    with serving(Versions()) as served:
        first, greeting = opened(served)
        assert greeting["model"] == "digest1"
        served.run(served.front.reload())
        second, greeting = opened(served)
        assert greeting["model"] == "digest2"
        assert ask(first, grey(1))["text"] == "0 1" and ask(second, grey(1))["text"] == "0 2"
        with pytest.raises(Exception, match="1 sessions still use an earlier model"):
            served.run(served.front.reload())
        assert ask(first, {"reset": True})["model"] == "digest2"
        assert ask(first, grey(1))["text"] == "0 2"
        served.run(served.front.reload())
        assert set(served.front.model.greetings) == {"digest2", "digest3"}
        first.close(), second.close()
        until(lambda: set(served.front.model.greetings) == {"digest3"})


def test_a_damaged_checkpoint_changes_nothing_and_loading_delays_nobody():
    load = Versions()
    with serving(load) as served:
        connection, _ = opened(served)
        with connection:
            load.damaged = True
            load.gate.clear()
            outcome = []

            def reload():
                try:
                    served.run(served.front.reload())
                except Exception as error:
                    outcome.append(str(error))

            reloading = threading.Thread(target=reload)
            reloading.start()
            until(lambda: len(load.folders) == 2)
            assert ask(connection, grey(1))["text"] == "0 1"
            load.gate.set()
            reloading.join(20)
            assert "damaged" in outcome[0]
            assert ask(connection, grey(1))["text"] == "0 1" and served.front.is_ready


def test_a_lost_model_process_is_started_again_with_what_it_had():
    load = Versions()
    with serving(load) as served:
        connection, _ = opened(served)
        with connection:
            served.run(served.front.reload())
            served.front.model._process.kill()
            until(lambda: served.front.model.restarts == 1)
            until(lambda: served.front.is_ready)
            assert load.folders == ["somewhere", "somewhere", "folder2"]
            assert code(ask(connection, grey(1))) == "unavailable"  # its model is no more
        connection, greeting = opened(served)
        with connection:
            assert ask(connection, grey(1))["model"] == greeting["model"] == "digest3"


def test_a_hanging_model_is_killed_and_its_clients_are_told(stub):
    stub.go_on.clear()
    with serving(always(stub), timeout=0.3) as served:
        connection, _ = opened(served)
        with connection:
            assert code(ask(connection, grey(1))) == "unavailable"
            assert get(served.port, "/healthz")[0] == 200
            stub.go_on.set()
            until(lambda: served.front.is_ready and served.front.model.restarts == 1)
            assert "actions" in ask(connection, grey(1))  # the same model: the session goes on


def test_ready_is_false_while_a_model_loads_and_greetings_wait_for_it():
    load = Versions()
    with serving(load) as served:
        assert get(served.port, "/readyz") == (200, b"ready\n")
        load.gate.clear()
        served.front.model._process.kill()
        until(lambda: not served.front.is_ready)
        for port in (served.port, served.rest):
            assert get(port, "/readyz")[0] == 503 and get(port, "/healthz") == (200, b"OK\n")
        assert post(served.rest, b"{}")[0] == 503
        with client(served.port) as connection:
            with pytest.raises(TimeoutError):
                connection.recv(timeout=0.1)
            load.gate.set()
            assert wire.decode(connection.recv(timeout=20))["model"] == "digest2"


def test_metrics_count_by_outcome(served):
    connection, _ = opened(served)
    with connection:
        ask(connection, grey(1))
        ask(connection, {**REQUEST, "else": 1})
    page = get(served.rest, "/metrics")[1].decode()
    assert get(served.port, "/metrics")[1].decode().count("rt2_requests_total{") == 2
    found = dict(
        re.findall(r'rt2_requests_total\{code="(\w+)",transport="websocket"\} (\S+)', page)
    )
    assert found == {"ok": "1.0", "bad_request": "1.0"} and "rt2_ready 1.0" in page


def test_stopping_tells_who_still_asks(stub, served):
    stub.go_on.clear()
    busy, _ = opened(served)
    busy.send(wire.encode(grey(0)))
    assert stub.entered.wait(10)
    served.end()
    until(lambda: served.front.stopping)
    assert code(ask(busy, grey(1))) == "going_away"
    stub.go_on.set()
    assert "actions" in wire.decode(busy.recv(timeout=20))
    with pytest.raises(ConnectionClosed) as closed:
        busy.recv(timeout=20)
    assert closed.value.rcvd.code == 1001


def test_our_client_asks_resets_and_holds_the_lease(served):
    with Client(f"ws://127.0.0.1:{served.port}", timeout=10, arm="left") as one:
        assert one.infer(grey(4))["actions"].tolist() == [[4, 4]]
        greeting = one.reset()
        assert greeting["model"] == one.infer(grey(5))["model"]
        with Client(f"ws://127.0.0.1:{served.port}", timeout=10, arm="left") as other:
            with pytest.raises(RefusedError, match="conflict: arm"):
                other.reset()
    until(lambda: not served.front._leases)
    with Client(f"ws://127.0.0.1:{served.port}", timeout=10, arm="left") as other:
        assert other.reset()["fence"] > greeting["fence"]


def test_our_client_takes_up_a_new_model_only_where_its_check_allows():
    with serving(Versions()) as served:
        allowed = ["digest1", "digest2"]

        def check(greeting):
            if greeting["model"] not in allowed:
                raise ValueError("another model")

        with Client(f"ws://127.0.0.1:{served.port}", timeout=10, check=check) as one:
            one.connect()
            for expected in ("digest1", "digest2"):
                assert one.infer(grey(1))["model"] == expected
                served.run(served.front.reload())
                assert one.infer(grey(1))["model"] == expected
                if expected == "digest1":
                    assert one.reset()["model"] == "digest2"
            for ask_again in (one.reset, lambda: one.infer(grey(1))):
                with pytest.raises(ValueError, match="another model"):
                    ask_again()
