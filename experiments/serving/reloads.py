"""Reloads of real checkpoints under traffic, some of them damaged."""

import asyncio
import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import openpi_loop
from websockets.asyncio.client import connect

from rt2.inference import wire

ADMIN, ACT = "a" * 32, "k" * 32
OBSERVATION = {"image": np.zeros((64, 64, 3), np.uint8), "instruction": "move to the cup"}
EPISODE = 10  # requests between resets


def reload_under_traffic(steps: Path, workdir: Path, count: int, damaged: set[int]) -> dict:
    """Puts `count` steps into the workdir one by one, those of `damaged` with a byte changed."""
    shutil.copytree(steps / "1", workdir / "checkpoints" / "1")
    keys = workdir / "keys"
    keys.write_text(f"{ACT}\nadmin {ADMIN}\n")
    command = [sys.executable, "-m", "rt2.inference.serve", f"--checkpoint={workdir}", "--port=0"]
    command += ["--rest-port=0", f"--token-file={keys}", "--max-batch=8"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        port, rest = _ports(server)
        with openpi_loop.Loop(port, ACT) as loop:
            traffic = Traffic(port)
            outcomes = [
                _reload(rest, steps, workdir, step, step in damaged) for step in range(2, count + 2)
            ]
            traffic.end()
            beside = loop.end()
    finally:
        server.terminate()
        server.wait(20)
    refused = sum(outcome != 200 for outcome in outcomes)
    return {"reloads": len(outcomes), "refused": refused, "openpi": beside, **traffic.counts}


def _reload(rest: int, steps: Path, workdir: Path, step: int, damage: bool) -> int:
    """The status of one reload; asked again while sessions use the model before the last."""
    target = workdir / "checkpoints" / str(step)
    shutil.copytree(steps / str(step), target)
    if damage:
        _damage(target / "params")
    while True:
        request = urllib.request.Request(
            f"http://127.0.0.1:{rest}/reload",
            b"",
            {"Authorization": f"Api-Key {ADMIN}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as told:
                status, text = told.status, told.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        if "sessions still use" not in text:
            break
        time.sleep(0.5)
    if damage:
        shutil.rmtree(target)
    return status


def _damage(folder: Path) -> None:
    """Changes one bit of every large file: orbax leaves some that no array is read from."""
    for file in folder.rglob("*"):
        if file.is_file() and file.stat().st_size > 1000:
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(data)


def _ports(server: subprocess.Popen) -> tuple[int, int]:
    port = rest = 0
    for line in server.stdout:
        if line.startswith("listening on"):
            port = int(line.rsplit(":", 1)[1])
        if line.startswith("OpenVLA"):
            rest = int(line.rsplit(":", 1)[1].split("/")[0])
        if line.startswith("ready"):
            return port, rest
    sys.exit("the server ended before it was ready")


class Traffic:
    """Four sessions, five requests a second each, that reset every `EPISODE` requests."""

    def __init__(self, port: int):
        self.counts = {"requests": 0, "failed": 0, "mixed": 0, "models": 0}
        self._models: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all(port)))
        self._thread.start()

    def end(self) -> None:
        """Waits for the last replies."""
        self._stop.set()
        self._thread.join(30)
        self.counts["models"] = len(self._models)

    async def _all(self, port: int) -> None:
        await asyncio.gather(*(self._session(port) for _ in range(4)))

    async def _session(self, port: int) -> None:
        headers = {"Authorization": f"Api-Key {ACT}"}
        url = f"ws://127.0.0.1:{port}"
        async with connect(url, compression=None, additional_headers=headers) as connection:
            model = wire.decode(await connection.recv())["model"]
            while not self._stop.is_set():
                for _ in range(EPISODE):
                    await connection.send(wire.encode(OBSERVATION))
                    told = await connection.recv()
                    self.counts["requests"] += 1
                    self.counts["failed"] += isinstance(told, str)
                    if isinstance(told, str):
                        print("failed:", json.loads(told)["message"])
                        continue
                    self.counts["mixed"] += wire.decode(told)["model"] != model
                    await asyncio.sleep(0.2)
                await connection.send(wire.encode({"reset": True}))
                model = wire.decode(await connection.recv())["model"]
                self._models.add(model)
