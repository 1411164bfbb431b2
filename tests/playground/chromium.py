"""A headless Chromium, by the DevTools protocol: what the tests of a page click and read with."""

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
import urllib.request

import pytest
from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *(
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--remote-debugging-port=0",
        "--remote-allow-origins=*",
    ),
)


class Tab:
    """One page of the browser; `errors` has what its console complained about."""

    def __init__(self, socket):
        self._socket, self._ids, self.errors = socket, itertools.count(1), []
        for domain in ("Page", "Runtime", "Log"):
            self.tell(f"{domain}.enable")

    def tell(self, method, **params):
        """Sends a command; returns its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            told = json.loads(self._socket.recv(timeout=30))
            if told.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.errors.append(str(told["params"])[:500])
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]

    def read(self, expression):
        """The value of a JavaScript expression, a promise's once it is there."""
        told = self.tell(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def until(self, expression):
        """Waits until the expression is true."""
        end = time.monotonic() + 20
        while not self.read(expression):
            assert time.monotonic() < end, (expression, self.errors, self.read("said.textContent"))
            time.sleep(0.02)

    def open(self, url, width, height=900):
        """Shows a page in a window of that size."""
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        self.tell("Page.navigate", url=url)
        self.until("document.readyState == 'complete'")

    def picture(self, file):
        """Writes what the whole page looks like as a PNG."""
        made = self.tell("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(made["data"]))


@contextlib.contextmanager
def tab(folder):
    """A tab of a new browser with its profile in `folder`; skips where there is no browser."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"needs a Chromium to drive: none of {', '.join(NAMES)} is installed")
    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"], stderr=subprocess.DEVNULL
    )
    try:
        with connect(_address(folder), max_size=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.wait(20)


def _address(folder):
    file, end = folder / "DevToolsActivePort", time.monotonic() + 30
    while not (file.is_file() and file.read_text().count("\n")):
        assert time.monotonic() < end, "the browser did not start"
        time.sleep(0.05)
    port = file.read_text().split("\n")[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=20) as told:
        pages = json.load(told)
    return next(p["webSocketDebuggerUrl"] for p in pages if p["type"] == "page")
