"""A small tabletop data set, and the trainer's command line on it."""

import json
import os
import pathlib
import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """What `make data` writes, a hundred times smaller."""
    out = tmp_path_factory.mktemp("tabletop") / "data"
    counts = ["--episodes=12", "--val-episodes=3", "--scenes=150", "--val-scenes=10"]
    subprocess.run(
        [sys.executable, "-m", "rt2.sim.collect", f"--out={out}", *counts],
        check=True,
        capture_output=True,
    )
    return out


@pytest.fixture(scope="session")
def command(project, data_dir):
    """Makes the command that trains configs/debug.py on the small data set."""

    def make(workdir: pathlib.Path, **changes) -> list[str]:
        knobs = {
            "sources.tabletop.path": data_dir / "tabletop/1.0.0",
            "sources.web.path": data_dir / "web/web-train-*.tar",
            "eval_sources.tabletop.path": data_dir / "tabletop/1.0.0",
            "eval_sources.vqa.path": data_dir / "web_vqa/1.0.0",
            **changes,
        }
        flags = [f"--config.{name}={value}" for name, value in knobs.items()]
        config = f"--config={project}/configs/debug.py"
        return [sys.executable, "-m", "rt2.train", config, f"--workdir={workdir}", *flags]

    return make


@pytest.fixture(scope="session")
def environment(project):
    """One device; compiled programs are kept between the processes."""
    return {
        **os.environ,
        "XLA_FLAGS": "",
        "JAX_COMPILATION_CACHE_DIR": str(project / ".cache" / "jax"),
        "PYTHONPATH": str(project),
    }


@pytest.fixture(scope="session")
def run(project, command, environment):
    """Runs the trainer to its end and returns the finished process."""

    def train(workdir: pathlib.Path, **changes) -> subprocess.CompletedProcess:
        return subprocess.run(
            command(workdir, **changes),
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )

    return train


def metric_rows(workdir: pathlib.Path) -> list[dict]:
    """The rows of a run's metrics."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
