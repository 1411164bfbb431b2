"""How a run finds its place among many processes, and how they become one."""

from __future__ import annotations

import hashlib
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jax._src import clusters  # jax.distributed.initialize() detects clusters with it, in private

import rt2
from rt2.errors import ConfigError
from rt2.train.line import ALONE, HostsError, Line
from rt2.train.roll_call import open_line

ENVIRONMENT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
COMPILER = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")  # different programs would wait for each other
LOST = 120  # seconds without a heartbeat until jax itself ends a process
FOLDER_WAIT = 60  # seconds that a network file system may take to show a new file elsewhere


class Place(NamedTuple):
    """Which of `count` processes this is; `coordinator` is HOST:PORT of process 0."""

    coordinator: str
    count: int
    process: int
    devices: tuple[int, ...] | None = None  # local ones to use; None: all


def find_place(
    coordinator: str | None, count: int | None, process: int | None, wait: float
) -> Place | None:
    """The place named by the arguments, the ENVIRONMENT, or a cluster that jax knows (Cloud TPU,
    GKE, SLURM, Open MPI); None if this process is alone.

    Raises ConfigError where only a part is named.
    """
    values = [coordinator, count, process]
    for i, name in enumerate(ENVIRONMENT):
        values[i] = os.environ.get(name) if values[i] is None else values[i]
    if all(value is None for value in values):
        detect = clusters.ClusterEnv.auto_detect_unset_distributed_params
        *values, local = detect(None, None, None, None, None, int(wait))
        return Place(*values, tuple(local) if local else None) if (values[1] or 1) > 1 else None
    return _checked(*values)


def _checked(coordinator: Any, count: Any, process: Any) -> Place:
    words = dict(zip(ENVIRONMENT, (coordinator, count, process), strict=True))
    if missing := [name for name, value in words.items() if value is None]:
        raise ConfigError(
            f"--coordinator, --processes and --process (or {', '.join(ENVIRONMENT)}) go together: "
            f"{', '.join(missing)} is missing"
        )
    host, _, port = str(coordinator).rpartition(":")
    if not host or not port.isdigit() or not str(count).isdigit() or not str(process).isdigit():
        raise ConfigError(f"{words}: expected HOST:PORT, a number of processes and this one's")
    if not int(process) < int(count):
        raise ConfigError(f"--process={process}: {count} processes are 0 .. {int(count) - 1}")
    return Place(str(coordinator), int(count), int(process))


def join(place: Place | None, wait: float) -> Line:
    """Waits for all processes, then lets jax know their devices. The open line between them.

    The line uses the port below the coordinator's. Raises HostsError where a process is missing.
    """
    if place is None or place.count == 1:
        return ALONE
    host, _, port = place.coordinator.rpartition(":")
    line = open_line(f"{host}:{int(port) - 1}", place.count, place.process, wait)
    jax.distributed.initialize(
        place.coordinator,
        place.count,
        place.process,
        local_device_ids=place.devices,
        cluster_detection_method="deactivate",
        initialization_timeout=int(wait),
        heartbeat_timeout_seconds=LOST,
    )
    return line


def check_equal(line: Line, config: Mapping[str, Any], workdir: pathlib.Path) -> None:
    """Raises HostsError where a process has other devices, code, settings or another folder."""
    if line.count == 1:
        return
    line.compare(
        {
            "config": config,
            "code": source_digest(),
            "jax": jax.__version__,
            "devices": f"{jax.local_device_count()} {jax.local_devices()[0].device_kind}",
            **{name: os.environ.get(name, "") for name in COMPILER},
        }
    )
    _check_folder(line, workdir)


def source_digest() -> str:
    """A digest of this package's source files."""
    root = pathlib.Path(rt2.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _check_folder(line: Line, workdir: pathlib.Path) -> None:
    """Every process leaves a file in `workdir`; process 0 must see them all."""
    own = workdir / f".process-{line.launch}-{line.process}"
    own.touch()
    line.compare({})
    if line.process == 0:
        deadline = time.monotonic() + FOLDER_WAIT
        wanted = {f".process-{line.launch}-{i}" for i in range(line.count)}
        while missing := wanted - {p.name for p in workdir.glob(".process-*")}:
            if time.monotonic() > deadline:
                numbers = ", ".join(sorted(name.rpartition("-")[2] for name in missing))
                raise HostsError(
                    f"--workdir={workdir} is not one folder for all processes: process 0 does not "
                    f"see the files of {numbers}. It must be on a shared file system"
                )
            time.sleep(1)
    line.compare({})
    own.unlink()
