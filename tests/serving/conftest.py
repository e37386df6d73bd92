"""Run folders made by hand, and the monitor in a thread."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from PIL import Image
from starlette.types import ASGIApp, Receive, Scope, Send

from twofold.runs import Run
from twofold.serving import doctor, monitor, watch
from twofold.serving.listening import Access, Server, address, listen

CONFIG = """format: 1
method: cyclegan
a: /data/horses
b: /data/zebras
training: {epochs: 6, decay_epochs: 4, report_every: 10}
"""


class Made(Run):
    """A run folder that tests write to, like a training would."""

    def report_at(self, images: int, loss: float = 0.5) -> None:
        losses = {"gan_ab": loss, "gan_ba": loss / 2, "cycle_a": 0.2, "disc_b": 0.25}
        row = {"images": images, "epoch": images / 100, "lr": 2e-4, "losses": losses}
        with self.metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")
        with self.timing.open("a") as file:
            clock = {"images": images, "seconds": images / 4, "images_per_s": 4.0, "waiting": 0.01}
            file.write(json.dumps(clock) + "\n")

    def sample_at(self, images: int) -> None:
        """Two scenes of 8 px; the colours tell the moment."""
        for direction in ("ab", "ba"):
            path = self.sample(images, direction)
            path.parent.mkdir(exist_ok=True)
            grid = Image.new("RGB", (24, 16), (images % 256, 90, 160))
            grid.paste((240, 240, 240), (8, 0, 16, 16))
            grid.save(path, "WEBP")

    def evaluate_at(self, images: int, **values: float) -> None:
        with self.evaluations.open("a") as file:
            file.write(json.dumps({"images": images, "values": values}) + "\n")


def make(path: Path, reports: int = 40, samples: int = 3) -> Made:
    path.mkdir(parents=True)
    run = Made(path)
    run.config.write_text(CONFIG)
    run.env.write_text(json.dumps([{"images": 0, "command": "twofold train", "device": "cpu"}]))
    for n in range(1, reports + 1):
        run.report_at(10 * n, 0.5 + 0.4 * (-1) ** n / n)
    for n in range(1, samples + 1):
        run.sample_at(100 * n)
    return run


@pytest.fixture
def made() -> Callable[..., Made]:
    """`made(path, reports=40, samples=3)` makes a run folder."""
    return make


@pytest.fixture
def run(tmp_path: Path) -> Made:
    return make(tmp_path / "horse2zebra")


class Served:
    """A server in a thread of its own, whose monitor the tests exchange."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None
        self.socket = listen("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]
        self.address = address("127.0.0.1", self.port)
        self.server = Server(self)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.app is not None:  # else the connection just ends
            await self.app(scope, receive, send)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.socket.close()
        assert not self.thread.is_alive()

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
        """What one request is answered with; if_none_match is If-None-Match."""
        with contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer, answer.read()

    def page(self, path: str = "/", status: int = 200) -> str:
        answer, body = self.ask(path)
        assert answer.status == status, body.decode()
        return body.decode("utf-8")


@pytest.fixture(scope="session")
def server() -> Iterator[Served]:
    started = Served()
    yield started
    started.stop()


@pytest.fixture
def serve(server: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Served]]:
    """`serve(folder, …)` has the server show these, and look for runs at every request; the doctor says nothing."""
    monkeypatch.setattr(watch, "RESCAN_AFTER", 0.0)
    monkeypatch.setattr(watch, "SCAN_SHARE", float("inf"))
    monkeypatch.setattr(doctor.BackgroundDoctor, "diagnosis", lambda self, each: doctor.PENDING)
    own = Access(frozenset({"127.0.0.1", "localhost"}))

    def start(*folders: Path, access: Access = own) -> Served:
        server.app = monitor.application(watch.Watch(folders), access)
        return server

    yield start
    server.app = None


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()
