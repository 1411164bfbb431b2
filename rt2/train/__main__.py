"""python -m rt2.train --config=FILE --workdir=DIR [--config.a.b=value ...]

On many hosts start the same command on each. Cloud TPU, GKE, SLURM and Open MPI are detected;
elsewhere add --coordinator=HOST:PORT --processes=N --process=I. A run that is asked to end
(SIGTERM) saves its step and exits with code 75, as when another process is lost: start it again.
"""

import logging
import os
import pathlib
import sys
import time
import traceback

from absl import app, flags

from rt2.errors import ConfigError, UserError
from rt2.train.commandline import CONFIG, parse

_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints and figures go.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, and PORT - 1.")
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.")
_PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.")
_WAIT = flags.DEFINE_float("wait", 300, "Seconds until all processes must have come.")

NEWS = 5  # seconds until the line tells that another process has ended


def main(argv: list[str]) -> None:
    """Trains; a mistake in the config or the data ends with one clear error."""
    if len(argv) > 1 or CONFIG.value is None or _WORKDIR.value is None:
        sys.exit(f"usage: {__doc__}")
    from rt2.train import hosts  # imports jax, which a wrong flag need not wait for

    try:
        place = hosts.find_place(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value, _WAIT.value)
        _log_to_terminal(place.process if place else 0)
        line = hosts.join(place, _WAIT.value)
    except UserError as error:
        sys.exit(f"rt2.train: {error}")
    _train(line)


def _train(line) -> None:
    from rt2.train import hosts, loop
    from rt2.train.line import AGAIN
    from rt2.train.preemption import Preempted

    try:
        workdir = _workdir()
        hosts.check_equal(line, CONFIG.value.to_dict(), workdir)
        loop.train(CONFIG.value, workdir, line)
    except Preempted as end:
        line.close()
        print(f"rt2.train: {end}", file=sys.stderr)
        sys.exit(AGAIN)
    except UserError as error:
        line.fail(str(error))
        _end(line, f"rt2.train: {error}")
    except Exception:
        if line.count == 1:
            raise
        time.sleep(NEWS)  # if it is because of another process, the line says so and ends this one
        line.fail("an error that its own log shows")
        _end(line, traceback.format_exc())
    line.close()


def _workdir() -> pathlib.Path:
    if "://" in _WORKDIR.value:
        raise ConfigError(
            f"--workdir={_WORKDIR.value}: a folder is needed; mount the bucket (gcsfuse, or a "
            "network file system) and name the mount"
        )
    workdir = pathlib.Path(_WORKDIR.value)
    workdir.mkdir(parents=True, exist_ok=True)
    return workdir


def _log_to_terminal(process: int) -> None:
    """Process 0 tells everything, the others what is odd."""
    level = logging.WARNING if process else logging.INFO
    name = f"process {process}: " if process else ""
    logging.basicConfig(level=level, format=f"%(levelname).1s {name}%(message)s", force=True)
    logging.getLogger("absl").setLevel(logging.WARNING)


def _end(line, message: str) -> None:
    """Ends at once where others may wait: a clean end would wait for them in turn."""
    if line.count == 1:
        sys.exit(message)
    print(message, file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
