"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "rt2_requests",
            "Requests by transport and outcome",
            ("transport", "code"),
            registry=registry,
        )
        self.seconds = Histogram(
            "rt2_request_seconds", "From request to reply", buckets=SECONDS, registry=registry
        )
        self.holds = Counter("rt2_holds", "Replies that held the arm", registry=registry)
        self.rows = Histogram(
            "rt2_batch_rows", "Requests decoded at once", buckets=ROWS, registry=registry
        )
        self.model_ms = Gauge(
            "rt2_model_milliseconds", "The last batch in the model", registry=registry
        )
        self.sessions = Gauge("rt2_sessions", "Open connections", registry=registry)
        self.waiting = Gauge("rt2_waiting", "Requests that wait for the model", registry=registry)
        self.ready = Gauge("rt2_ready", "1 while a model is loaded and warm", registry=registry)
        self.restarts = Gauge(
            "rt2_model_restarts", "Model processes that were lost", registry=registry
        )
        self.reloads = Counter("rt2_reloads", "Reloads by outcome", ("result",), registry=registry)

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self._registry)


__all__ = ["CONTENT_TYPE", "Metrics"]
