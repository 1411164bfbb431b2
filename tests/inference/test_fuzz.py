"""2,000 hostile messages over both transports; experiments/serving sends 100,000."""

import asyncio
import importlib.util

import pytest

from tests.inference.serving import REQUEST, StubPolicy, always, ask, client, serving


@pytest.fixture(scope="module")
def fuzz(project):
    path = project / "experiments" / "serving" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("fuzz", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_message_is_answered_or_refused_with_the_right_code(fuzz):
    with serving(always(StubPolicy()), max_batch=8) as served:
        found = asyncio.run(fuzz.fuzz(served.port, served.rest, 2000, clients=2))
        assert found.wrong == [] and found.hangs == 0 and found.leaks == 0
        assert sum(found.outcomes.values()) == 2000
        for outcome in ("websocket ok", "websocket bad_request", "rest ok", "rest bad_request"):
            assert found.outcomes[outcome] > 50, found.outcomes
        with client(served.port) as connection:
            connection.recv()
            assert "actions" in ask(connection, REQUEST)
