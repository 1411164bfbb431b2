"""Crashes, reloads and the end of the model process, as clients meet them."""

import re
import threading

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
    code,
    get,
    grey,
    opened,
    post,
    serving,
    until,
)


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
