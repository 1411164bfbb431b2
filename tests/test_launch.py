"""The files of launch/: they parse, pass arguments on unharmed, and start again what can go on."""

import os
import pathlib
import shlex
import signal
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "launch").iterdir())
ARGUMENTS = ["--config=configs/debug.py", "--workdir=/mnt/a b", '--config.sources.web.path="x"']


@pytest.fixture
def stub(tmp_path):
    """Makes a command that writes its arguments, a line each, to a file and exits with `code`."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name, code=0):
        program = folder / name
        record = tmp_path / f"{name}.txt"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{record}\nexit {code}\n')
        program.chmod(0o755)
        return record

    return make


def launch(tmp_path, name, *arguments, **more):
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", **more}
    return subprocess.run(
        ["bash", ROOT / "launch" / name, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_parses_and_says_what_it_needs_and_how_it_resumes(file):
    subprocess.run(["bash", "-n", file], check=True)
    text = file.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ") and len(text.splitlines()) < 45
    if "rt2.train" in text and file.name != "again.sh":
        assert "# Needs: " in text and "# Resumes: " in text


def test_the_tpu_vm_runs_the_trainer_on_all_workers_with_the_same_words(stub, tmp_path):
    said = stub("gcloud")
    assert launch(tmp_path, "tpu_vm.sh", "slice", "us-central2-b", *ARGUMENTS).returncode == 0
    *options, command = said.read_text().splitlines()
    assert options[:5] == ["compute", "tpus", "tpu-vm", "ssh", "slice"]
    assert "--worker=all" in options and "--zone=us-central2-b" in options
    words = shlex.split(command.removeprefix("--command="))
    assert words[words.index("rt2.train") + 1 :] == ARGUMENTS


def test_gke_gets_the_same_words_and_restarts_on_75(stub, tmp_path):
    said = stub("xpk")
    assert launch(tmp_path, "gke.sh", "cluster", "v5p-256", "image:1", *ARGUMENTS).returncode == 0
    *options, command = said.read_text().splitlines()
    assert "--restart-on-exit-codes=75" in options and "--tpu-type=v5p-256" in options
    words = shlex.split(command.removeprefix("--command="))
    assert words[words.index("rt2.train") + 1 :] == ARGUMENTS


@pytest.mark.parametrize("code, requeued", [(0, False), (75, True), (1, False)])
def test_slurm_puts_a_run_that_saved_back_into_the_queue(stub, tmp_path, code, requeued):
    step, queue = stub("srun", code), stub("scontrol")
    done = launch(tmp_path, "slurm.sbatch", *ARGUMENTS, SLURM_JOB_ID="17")
    assert done.returncode == code
    assert step.read_text().splitlines()[-3:] == ARGUMENTS
    assert queue.exists() == requeued
    if requeued:
        assert queue.read_text() == "requeue\n17\n"


@pytest.mark.parametrize(
    "codes, starts, ends", [("0", 1, 0), ("1", 1, 1), ("75 137 0", 3, 0), ("75 " * 9, 4, 75)]
)
def test_a_run_starts_again_only_where_it_can_go_on(tmp_path, codes, starts, ends):
    """The command ends with the first of `codes`, then with the second ..."""
    left = tmp_path / "codes"
    left.write_text(codes)
    body = 'read -r first rest <"$0"; echo "$rest" >"$0"; echo x >>"$0.starts"; exit "$first"'
    done = launch(tmp_path, "again.sh", "bash", "-c", body, left, STARTS="4", PAUSE="0")
    assert done.returncode == ends
    assert (tmp_path / "codes.starts").read_text().count("x") == starts


def test_a_run_that_is_asked_to_end_saves_and_is_not_started_again(tmp_path):
    body = 'trap "sleep 0.3; echo saved; exit 75" TERM; echo ready; while :; do sleep 0.05; done'
    process = subprocess.Popen(
        ["bash", ROOT / "launch/again.sh", "bash", "-c", body],
        env={**os.environ, "PAUSE": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0] == "saved\n"
    assert process.returncode == 75
