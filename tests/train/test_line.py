"""The line between processes, without jax: who is missing, who differs, who was killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from rt2.train.differences import differences
from rt2.train.line import AGAIN

TALK = """
import json, sys, time
from rt2.errors import UserError
from rt2.train.roll_call import open_line
address, count, process, wait, facts, then = sys.argv[1:]
try:
    line = open_line(address, int(count), int(process), float(wait))
    line.compare(json.loads(facts))
except UserError as error:
    if "line" in globals():
        line.fail(str(error))
    sys.exit(str(error))
print("together", flush=True)
if then == "fail":
    line.fail("shard 7 is damaged")
    sys.exit(1)
time.sleep(float(then))
line.close()
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Talkers:
    """Processes on one line; every one is killed at the end."""

    def __init__(self, project):
        self.project, self.address, self.started = project, f"127.0.0.1:{free_port()}", []

    def start(self, process, count=2, wait=20, facts=None, then="0"):
        arguments = [self.address, count, process, wait, json.dumps(facts or {}), then]
        talker = subprocess.Popen(
            [sys.executable, "-c", TALK, *map(str, arguments)],
            cwd=self.project,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(talker)
        return talker

    def end(self):
        for talker in self.started:
            talker.kill()
            talker.communicate()


@pytest.fixture
def talkers(project):
    made = Talkers(project)
    yield made
    made.end()


def said(talker):
    """(exit code, what it printed) of a process that must end by itself."""
    out, error = talker.communicate(timeout=30)
    return talker.returncode, out + error


def test_three_processes_meet_and_part(talkers):
    facts = {"config": {"seed": 1}, "devices": [1, "cpu"]}
    third = [talkers.start(2, 3, facts=facts), talkers.start(1, 3, facts=facts)]
    for talker in (talkers.start(0, 3, facts=facts, then="0.3"), *third):
        assert said(talker) == (0, "together\n")


def test_a_missing_process_is_named_on_every_other(talkers):
    for talker in (talkers.start(0, 4, wait=2), talkers.start(2, 4, wait=2)):
        code, text = said(talker)
        assert code == 1 and "2 of 4 processes came" in text
        assert "Missing: 1, 3" in text and socket.gethostname() in text


def test_process_0_that_is_missing_is_named(talkers):
    code, text = said(talkers.start(1, wait=1))
    assert code == 1 and f"did not reach process 0 at {talkers.address} within 1 s" in text


def test_another_number_of_processes_or_the_same_place_twice(talkers):
    for talker in (talkers.start(0, 3), talkers.start(1, 2)):
        assert "one of 2 processes, 0 of 3" in said(talker)[1]
    for talker in (talkers.start(0, 3), talkers.start(1, 3), talkers.start(1, 3)):
        assert "two processes were started as number 1" in said(talker)[1]


def test_what_differs_is_named_with_its_process(talkers):
    one, other = {"config": {"seed": 0, "steps": 5}}, {"config": {"seed": 3, "steps": 5}}
    for i, facts in ((0, one), (1, one), (2, other)):
        talkers.start(i, 3, facts=facts, then="20")
    for talker in talkers.started:
        code, text = said(talker)
        assert code == 1 and "process 2 (" in text
        assert "has config.seed 3, process 0 0" in text and "steps" not in text


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_when_one_is_killed_all_end_at_once(talkers, killed):
    for i in range(3):
        talkers.start(i, 3, then="60")
    for talker in talkers.started:
        assert talker.stdout.readline() == "together\n"
    began = time.monotonic()
    os.kill(talkers.started[killed].pid, signal.SIGKILL)
    for i, talker in enumerate(talkers.started):
        code, text = said(talker)
        if i != killed:
            assert code == AGAIN and f"process {killed}" in text and "without a word" in text
            assert "goes on from its newest checkpoint" in text
    assert time.monotonic() - began < 5


def test_when_one_fails_all_tell_its_reason(talkers):
    for i in range(3):
        talkers.start(i, 3, then="fail" if i == 2 else "60")
    for talker in talkers.started[:2]:
        code, text = said(talker)
        assert code == 1 and "process 2 (" in text and "shard 7 is damaged" in text


def test_a_stranger_on_the_port_is_ignored(talkers):
    first = talkers.start(0)
    host, _, port = talkers.address.rpartition(":")
    while True:
        try:
            stranger = socket.create_connection((host, int(port)))
            break
        except OSError:
            time.sleep(0.05)
    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert said(talkers.start(1))[0] == 0
    assert said(first)[0] == 0


def test_differences_go_by_path():
    one, other = {"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"b": 1, "c": [2]}, "e": 2}
    assert list(differences(one, other)) == [
        ("a.c", [1], [2]),
        ("d", 2, None),
        ("e", None, 2),
    ]
