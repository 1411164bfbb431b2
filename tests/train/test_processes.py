"""Two processes are one run: through the real command, on gloo, with data read by each."""

import functools
import json
import shutil
import signal
import socket
import subprocess
import time

import jax
import numpy as np
import pytest

from rt2 import checkpoint
from rt2.train.line import AGAIN

KNOBS = {  # SIGTERM ends a run long before its last step, so that nothing is evaluated
    "num_steps": 2000,
    "log_interval": 1,
    "save_interval": 5,
    "keep_checkpoints": 100,
    "mesh.fsdp": 2,
    "mesh.tensor": 2,
    "augment.brightness": 0.1,
}


def free_ports():
    """A coordinator's port, and the line's port below it."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            try:
                socket.create_server(("127.0.0.1", port - 1)).close()
            except OSError:
                continue
            return port


class Run:
    """One start of a run as `count` processes of `devices` devices each.

    `each` changes knobs of single processes; `program` runs instead of `-m rt2.train`.
    """

    def __init__(self, make, workdir, count, devices, each=None, program=("-m", "rt2.train")):
        self.workdir, self.processes, self.logs = workdir, [], []
        port = free_ports()
        for i in range(count):
            changes = dict((each or [{}] * count)[i])
            own = changes.pop("devices", devices)
            place = [f"--coordinator=127.0.0.1:{port}", f"--processes={count}", f"--process={i}"]
            self.processes.append(make(workdir, own, changes, program, place[: 3 * (count > 1)]))

    def wait_for_step(self, step):
        while step not in losses(self.workdir):
            ended = [p for p in self.processes if p.poll() is not None]
            assert not ended, ended[0].communicate()[1]
            time.sleep(0.02)

    def end(self, timeout=120):
        """(exit code, log) of every process; they must end by themselves."""
        self.logs = [p.communicate(timeout=timeout)[1] for p in self.processes]
        return [(p.returncode, log) for p, log in zip(self.processes, self.logs, strict=True)]


@pytest.fixture(scope="module")
def start(command, project, environment):
    """Makes a Run; what is left of it is killed in the end."""
    processes = []

    def make(workdir, devices, changes, program, place):
        python, _, _, *flags = command(workdir, **KNOBS, **changes)
        virtual = f"--xla_force_host_platform_device_count={devices}"
        processes.append(
            subprocess.Popen(
                [python, *program, *flags, *place],
                cwd=project,
                env={**environment, "XLA_FLAGS": virtual},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield functools.partial(Run, make)
    for process in processes:
        process.kill()


def losses(workdir):
    """Step -> (loss, hash of the batch), of the rows that are whole."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return {row["step"]: (row["loss"], row["batch_hash"]) for row in rows if "loss" in row}


def assert_same_training(workdir, other, steps):
    """Equal examples in equal rows, and losses as close as another order of sums allows."""
    ours, theirs = losses(workdir), losses(other)
    for step in steps:
        assert ours[step][1] == theirs[step][1], step
        np.testing.assert_allclose(ours[step][0], theirs[step][0], rtol=1e-5, err_msg=str(step))


def preempt(run, which):
    """Sends SIGTERM to one process; the last step, which all must have saved."""
    run.processes[which].send_signal(signal.SIGTERM)
    for code, text in run.end():
        assert code == AGAIN, text
        assert "is saved; start again to go on" in text
    last = max(losses(run.workdir))
    assert checkpoint.find(run.workdir).name == str(last)
    return last


@pytest.fixture(scope="module")
def alone(start, tmp_path_factory):
    """The workdir of one process with four devices, ended after step 9 or later."""
    run = start(tmp_path_factory.mktemp("alone"), 1, 4)
    run.wait_for_step(9)
    preempt(run, 0)
    return run.workdir


def copied(workdir, target, step):
    """`workdir` as it was when `step` had been saved."""
    shutil.copytree(workdir, target, ignore=shutil.ignore_patterns("metrics.jsonl"))
    for folder in (target / "checkpoints").iterdir():
        if int(folder.name) > step:
            shutil.rmtree(folder)
    return target


def test_two_processes_go_on_where_one_was_and_end_together(alone, start, tmp_path):
    workdir = copied(alone, tmp_path / "two", 5)
    run = start(workdir, 2, 2, program=["-c", RECORD])
    run.wait_for_step(9)
    last = preempt(run, 1)
    assert last < 2000
    assert_same_training(workdir, alone, range(6, 10))
    for i in range(2):  # each has read the rows of its own devices, and no others
        read = np.array(json.loads((workdir / f"read-{i}.json").read_text()))
        assert set(read % 16) == set(range(8 * i, 8 * i + 8))
        assert read.min() >= 5 * 16 and read.max() < (last + 8) * 16
    restored = checkpoint.read_tree(checkpoint.find(workdir), "params", whole_params(workdir))
    assert len(restored) > 50  # verified bit by bit against what two processes held


RECORD = """
import json, os, pathlib, runpy, sys
from rt2.data import mixture
read, original = [], mixture._Rows.__getitem__
def recorded(self, i):
    read.append(i)
    return original(self, i)
mixture._Rows.__getitem__ = recorded
flags = dict(flag.lstrip("-").split("=", 1) for flag in sys.argv[1:])
try:
    runpy.run_module("rt2.train", run_name="__main__", alter_sys=True)
finally:
    first = read.index(next(i for i in read if i >= 5 * 16))  # before: the look at a row's shapes
    place = pathlib.Path(flags["workdir"], f"read-{flags['process']}.json")
    place.write_text(json.dumps(read[first:]))
"""


def whole_params(workdir):
    """The parameters of a checkpoint as shapes on one device."""
    saved = checkpoint.read_json(checkpoint.find(workdir), "manifest")["params"]
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    paths = {path: path[2:-2] for path in saved}  # "['a/b']"
    return {
        paths[path]: jax.ShapeDtypeStruct(shape, dtype, sharding=one)
        for path, (dtype, shape, *_) in saved.items()
    }


def test_processes_that_differ_are_refused_by_name(start, tmp_path):
    run = start(tmp_path, 2, 1, each=[{}, {"seed": 7, "devices": 2}])
    for code, text in run.end():
        assert code == 1 and "process 1 (" in text
        assert "has config.seed 7, process 0 0" in text
        assert "has devices 2 cpu, process 0 1 cpu" in text
        assert "Traceback" not in text
    assert not losses(tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_process_is_killed_the_other_ends_and_both_go_on(alone, start, tmp_path, killed):
    run = start(tmp_path / "two", 2, 2)
    run.wait_for_step(6)
    run.processes[killed].kill()
    began = time.monotonic()
    code, text = run.end()[1 - killed]
    assert time.monotonic() - began < 30
    assert code == AGAIN and f"process {killed}" in text and "without a word" in text
    again = start(run.workdir, 2, 2)
    again.wait_for_step(9)
    preempt(again, killed)
    assert "resumed at step 5" in again.logs[0]
    assert_same_training(run.workdir, alone, range(1, 10))


@pytest.mark.faults
def test_two_processes_of_four_devices_equal_one_of_eight(start, tmp_path):
    workdirs = [tmp_path / "one", tmp_path / "two"]
    for workdir, (count, devices) in zip(workdirs, ((1, 8), (2, 4)), strict=True):
        run = start(workdir, count, devices)
        run.wait_for_step(10)
        preempt(run, 0)
    assert_same_training(*workdirs, range(1, 11))
