"""Kill -9 at random moments: the run ends with the same bits as if nothing had happened."""

import json
import random
import signal
import subprocess
import time

import pytest

from rt2 import checkpoint

STEPS, SAVE_EVERY = 40, 4
KNOBS = {
    "num_steps": STEPS,
    "save_interval": SAVE_EVERY,
    "log_interval": 1,
    "eval_interval": 0,
    "eval_rows": 8,
    "augment.brightness": 0.1,
}


def end_of(workdir):
    """Fingerprints of parameters and optimizer, and the examples of every step."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    order = {row["step"]: row["batch_hash"] for row in rows if "batch_hash" in row}
    losses = {row["step"]: row["loss"] for row in rows if "loss" in row}
    folder = checkpoint.find(workdir)
    assert folder.name == str(STEPS)
    return checkpoint.read_json(folder, "manifest"), order, losses


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    done = run(workdir, **KNOBS)
    assert done.returncode == 0, done.stderr
    return end_of(workdir)


def test_two_whole_runs_are_equal(whole, run, tmp_path):
    done = run(tmp_path, **KNOBS)
    assert done.returncode == 0, done.stderr
    assert end_of(tmp_path) == whole
    # the comparison can fail: another seed gives other bits
    other = tmp_path / "other"
    assert run(other, **KNOBS, seed=1).returncode == 0
    assert end_of(other)[0] != whole[0] and end_of(other)[1] != whole[1]


def test_five_kills_change_nothing(whole, command, environment, project, tmp_path):
    rng = random.Random(0)
    for moment in sorted(rng.sample(range(1, STEPS - 1), 5)):
        process = subprocess.Popen(
            command(tmp_path, **KNOBS),
            cwd=project,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while steps_done(tmp_path) < moment and process.poll() is None:
            time.sleep(0.005)
        time.sleep(0.2 * rng.random())  # anywhere between two steps, or inside a save
        assert process.poll() is None, f"ended before it could be killed at step {moment}"
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(
        command(tmp_path, **KNOBS), cwd=project, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    manifest, order, losses = end_of(tmp_path)
    assert sorted(order) == list(range(1, STEPS + 1))
    assert order == whole[1]
    assert losses == whole[2]
    assert manifest == whole[0]


def steps_done(workdir):
    """Steps that the run has logged."""
    path = workdir / "metrics.jsonl"
    return path.read_text().count('"loss"') if path.exists() else 0
