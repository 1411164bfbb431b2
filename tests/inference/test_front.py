"""Load, order and roles, as clients meet them."""

import json

import pytest

from rt2.inference import wire
from tests.inference.serving import (
    REQUEST,
    StubPolicy,
    always,
    ask,
    code,
    get,
    grey,
    opened,
    post,
    serving,
    until,
)

KEYS = [("ask", "q" * 16), ("act", "k" * 16), ("admin", "a" * 16)]


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
            with opened(served, dict(KEYS)[role])[0] as connection:
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
