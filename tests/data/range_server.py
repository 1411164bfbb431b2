"""A local HTTP server with ranges, latency, errors and broken connections."""

import http.server
import threading
import time
from pathlib import Path


class RangeServer:
    """Serves `root` while it is entered; counts requests and the most of them at a time.

    `failures`: statuses for the next requests, in order ("drop" closes the connection; "stall"
    answers after `stall` seconds). `ranges`: whether the Range header is obeyed; `versions`:
    whether an ETag tells one version of a file from another.
    """

    def __init__(self, root: Path):
        self.root, self.latency, self.ranges, self.stall = root, 0.0, True, 0.0
        self.versions = True
        self.failures: list[int | str] = []
        self.requests: list[tuple[str, str, str | None]] = []
        self.at_once = self.most = 0
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "RangeServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def enter(self, method: str, path: str, span: str | None) -> int | str | None:
        """Notes a request and says how it is to fail."""
        with self._lock:
            self.requests.append((method, path, span))
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            failure = self.failures.pop(0) if self.failures else None
        time.sleep(self.stall if failure == "stall" else self.latency)
        return failure

    def leave(self) -> None:
        """Notes that a request is answered."""
        with self._lock:
            self.at_once -= 1

    def _handler(outer):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.answer("HEAD")

            def do_GET(self):
                self.answer("GET")

            def answer(self, method):
                span = self.headers.get("Range")
                failure = outer.enter(method, self.path, span)
                try:
                    self.respond(method, span, failure)
                finally:
                    outer.leave()

            def respond(self, method, span, failure):
                if failure in ("drop", "stall"):
                    self.close_connection = True
                    self.connection.close()
                    return
                file = outer.root / self.path.lstrip("/")
                if failure or not file.is_file():
                    self.send_response(failure or 404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                data, status = file.read_bytes(), 200
                if span and outer.ranges:
                    first, last = span.removeprefix("bytes=").split("-")
                    data, status = data[int(first) : int(last) + 1], 206
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Accept-Ranges", "bytes")
                if outer.versions:
                    self.send_header("ETag", f'"{file.stat().st_mtime_ns}"')
                self.end_headers()
                if method == "GET":
                    self.wfile.write(data)

            def log_message(self, *_):
                pass

        return Handler
