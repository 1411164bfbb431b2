"""The unmodified openpi-client's own loop, beside whatever else a server is put through."""

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "openpi_client"
sys.path.insert(0, str(FOLDER.parents[1]))

from experiments import endpoints  # noqa: E402


@functools.cache
def _environment() -> tuple[tempfile.TemporaryDirectory, Path]:
    """An environment with openpi-client, made once; it goes when this program does."""
    folder = tempfile.TemporaryDirectory()
    return folder, endpoints.environment(Path(folder.name) / "env", *endpoints.OPENPI)


class Loop:
    """`experiments/openpi_client/loop.py` as a process of its own."""

    def __init__(self, port: int, key: str | None = None):
        command = [_environment()[1], FOLDER / "loop.py", str(port), *([key] if key else [])]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, **pipes, text=True)

    def __enter__(self) -> "Loop":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def end(self) -> dict:
        """What the loop has found, once its step is done."""
        return json.loads(self._process.communicate("", timeout=60)[0])
