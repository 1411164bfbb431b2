"""A side of the comparison as a process that measures one job at a time, when it is asked to."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping


def serve(jobs: Mapping[str, Callable[[], list[int]]]) -> None:
    """Answers each line `JOB COUNT` with the seconds of COUNT calls and what the last one gave."""
    for line in sys.stdin:
        name, count = line.split()
        seconds, found = [], []
        for _ in range(int(count)):
            began = time.perf_counter()
            found = jobs[name]()
            seconds.append(time.perf_counter() - began)
        print(json.dumps({"seconds": seconds, "tokens": found}), flush=True)


class Side:
    """The process of one side; between its jobs it waits for the next line."""

    def __init__(self, command: list[str], environment: Mapping[str, str]):
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def measure(self, job: str, count: int) -> dict:
        """Seconds of `count` calls, and the tokens. Ends the program where the side has failed."""
        self._process.stdin.write(f"{job} {count}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{job}: the process {self._process.args} has ended")
        return json.loads(line)

    def close(self) -> None:
        """Waits for the process to end."""
        self._process.stdin.close()
        self._process.wait()
