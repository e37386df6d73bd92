"""The counters and times of `GET /metrics`, in the format of Prometheus."""

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from twofold.serving.service import Service

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counters of one server."""

    def __init__(self, service: "Service") -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        about = {"namespace": "twofold", "registry": self.registry}
        self.requests = Counter("requests", "Answers by path and status", ["path", "status"], **about)
        self.latency = Histogram(
            "request_seconds", "From a request's headers to its answer", ["path"], buckets=SECONDS, **about
        )
        self.images = Counter("images", "Images translated", ["model", "direction"], **about)
        self.batches = Histogram(
            "batch_size", "Images that went through a network together", buckets=(1, 2, 3, 4, 6, 8), **about
        )
        self.stages = Histogram(
            "stage_seconds", "An image's time in each stage", ["stage"], buckets=SECONDS, **about
        )
        open_requests = Gauge("requests_open", "Translations that are not answered yet", **about)
        open_requests.set_function(lambda: service.open)
        queue = Gauge("queue_requests", "Of these, those whose upload is complete", **about)
        queue.set_function(lambda: service.working)
        held = Gauge("held_bytes", "Bytes of uploads, decoded images and answers", **about)
        held.set_function(lambda: service.held)

    def text(self) -> bytes:
        """The present values."""
        return generate_latest(self.registry)


class Measured:
    """Counts the answers of an application, and closes connections while the server drains."""

    def __init__(self, app: ASGIApp, service: "Service") -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.monotonic()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = getattr(scope.get("route"), "path", "other")
                self.service.metrics.requests.labels(path, str(message["status"])).inc()
                self.service.metrics.latency.labels(path).observe(time.monotonic() - start)
                if self.service.draining:
                    message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await self.app(scope, receive, counted)
