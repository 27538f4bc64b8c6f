"""What the server counts (Prometheus), and what it writes of each request: never its content."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

logger = logging.getLogger(__name__)
access = logging.getLogger("demeanor.access")

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Media type of the text format that Prometheus reads.
TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One registry per server, so that two in one process do not count each other's requests."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = self._counter("requests", "Requests by route, status and code", "route", "status", "code")
        self.request_seconds = self._histogram("request_seconds", "From the first byte to the last", SECONDS, "route")
        self.in_flight = self._gauge("requests_in_flight", "Requests being answered")
        self.queue_length = self._gauge("queue_length", "Requests that wait for a worker")
        self.model_queue_length = self._gauge("model_queue_length", "Requests that wait for the model")
        self.batch_rows = self._histogram("batch_rows", "Rows of one forward pass", (1, 2, 4, 8, 16, 32, 64))
        self.stage_seconds = self._histogram("stage_seconds", "Work by stage", SECONDS, "stage")
        self.audio_seconds = self._counter("audio_seconds", "Sound that was decoded")
        self.worker_restarts = self._counter("worker_restarts", "Worker processes that were replaced")
        self.jobs = self._counter("jobs", "Timelines by how they ended", "state")
        self.live_sessions = self._gauge("live_sessions", "Live sessions that are open")
        self.live_ends = self._counter("live_ends", "Live sessions by why they ended", "reason")
        self.live_windows = self._counter("live_windows", "Windows of live sessions by outcome", "outcome")
        self.live_wordless = self._counter("live_wordless", "Live answers that words would have made late")
        self.live_delay = self._histogram("live_delay_seconds", "From a window's last sample to its answer", SECONDS)
        self.model = self._gauge("model_info", "Models that are served", "name", "alias", "version", "sha256")

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"demeanor_{name}", what, labels, registry=self.registry)

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"demeanor_{name}", what, labels, registry=self.registry)

    def _histogram(self, name: str, what: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"demeanor_{name}", what, labels, buckets=buckets, registry=self.registry)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)

    def note(self, **facts: Any) -> None:
        """One line of the access log: JSON with the time first."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time() % 1 * 1000:03.0f}Z"
        access.info(json.dumps({"time": moment, **{key: value for key, value in facts.items() if value is not None}}))

    @staticmethod
    def log_unforeseen(error: BaseException, what: str) -> None:
        """An error that nobody foresaw: its kind and place. Its message might repeat what a caller sent."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        logger.error("%s: %s in %s, line %s", what, type(error).__name__, place.filename, place.lineno)


def write_access_log() -> None:
    """Lines of the access log go to standard output as they are."""
    if not access.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        access.addHandler(handler)
    access.setLevel(logging.INFO)
    access.propagate = False
