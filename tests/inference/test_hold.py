"""What clients are told where the policy holds, and how the server's draws differ."""

import json

import numpy as np
import pytest

from rt2.inference import worker
from rt2.inference.access import ServeError
from rt2.inference.decoding import Decoding
from tests.inference.serving import (
    StubPolicy,
    always,
    ask,
    code,
    get,
    grey,
    opened,
    post,
    serving,
)
from tests.inference.test_rest import asked


class Talker(StubPolicy):
    """Means to talk where it is told to; `arm` has a gripper beside a displacement."""

    def __init__(self):
        super().__init__()
        self.metadata["datasets"] = {
            "table": {"relative": [True, True]},
            "arm": {"relative": [True, False]},
        }

    def move(self, observation):
        talks = observation["instruction"] == "talk"
        return super().move(observation) | {"hold": talks, "allowed_mass": 0.1 if talks else 0.9}


@pytest.fixture(scope="module")
def talking():
    with serving(always(Talker())) as running:
        yield running


def test_a_held_reply_moves_nothing_and_says_so(talking):
    connection, _ = opened(talking)
    with connection:
        moved = ask(connection, grey(7))
        held = ask(connection, grey(7, instruction="talk"))
    assert not moved["hold"] and moved["actions"].tolist() == [[7, 7]]
    assert held["hold"] is True and held["allowed_mass"] == 0.1
    assert held["actions"].tolist() == [[0, 0]] and held["actions"].dtype == np.float32
    assert b"rt2_holds_total 1.0" in get(talking.port, "/metrics")[1]


def test_a_gripper_stays_as_it_was_told_last(talking):
    connection, _ = opened(talking)
    talk, move = grey(9, instruction="talk", dataset="arm"), grey(5, dataset="arm")
    with connection:
        assert code(ask(connection, talk)) == "hold"  # nothing was said of the gripper yet
        ask(connection, grey(8, dataset="table"))
        assert code(ask(connection, talk)) == "hold"
        ask(connection, move)
        for _ in range(2):
            assert ask(connection, talk)["actions"].tolist() == [[0, 5]]
        ask(connection, {"reset": True})
        assert code(ask(connection, talk)) == "hold"


@pytest.mark.parametrize("dataset", ["table", "arm"])
def test_over_http_a_held_request_has_no_action(talking, dataset):
    body = json.dumps(asked(dataset=dataset, id="x") | {"instruction": "talk"}).encode()
    status, told, _ = post(talking.rest, body)
    told = json.loads(told)
    assert (status, told["code"], told["id"]) == (409, "hold", "x")
    assert "__numpy__" not in told["message"]


def test_a_server_draws_anew_for_every_request_and_the_same_again(policy, observations):
    hot = Decoding(temperature=2.0, seed=4)
    first, second = (worker.Decoder(policy, hot) for _ in range(2))
    said = [first.infer_batch([observations[0]])[0]["text"] for _ in range(3)]
    assert len(set(said)) == 3
    together = [reply["text"] for reply in second.infer_batch([observations[0]] * 3)]
    assert said == together
    assert first.metadata["decoding"]["temperature"] == 2.0


def test_beams_and_holds_reach_the_policy(policy, observations):
    question = {**observations[0], "mode": "vqa", "instruction": "where is the cup"}
    searched = worker.Decoder(policy, Decoding(beams=3))
    for _ in range(2):
        told = searched.infer_batch([question])[0]
        assert told["text"] == policy.infer(question, Decoding(beams=3))["text"]
        assert told["log_prob"] != policy.infer(question)["log_prob"]
    wary = worker.Decoder(policy, Decoding(hold_below=1.0))
    assert wary.infer_batch([observations[0]])[0]["hold"]


def test_a_bundle_decodes_as_it_was_exported(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ServeError, match="--hold-below"):
        worker.load(str(tmp_path), 1, {"hold_below": 0.5})
