"""Tiny models, images, and ways to reach a translation server."""

import asyncio
import contextlib
import io
import threading

import httpx
import numpy as np
import torch
from PIL import Image

from twofold.exchange.load import load
from twofold.formats.contract import Contract
from twofold.formats.scale import Geometry
from twofold.networks.layers import initialise
from twofold.networks.registry import describe
from twofold.networks.resnet import ResnetGenerator
from twofold.runs import Run
from twofold.serving import models, server, service, uploads
from twofold.serving.listening import Access, Server, listen
from twofold.translation.header import Header
from twofold.translation.model_file import save

DEFAULTS = uploads.Limits()
LOCAL = Access(frozenset({"127.0.0.1"}))
RGB = Contract()
GREY_12 = Contract("uint16", 1, (0.0,), (4095.0,), "bits")


def write_model(path, direction="ab", source=RGB, target=RGB, seed=0, images=0, size=32):
    torch.manual_seed(seed)
    network = ResnetGenerator(source.channels, target.channels, width=4, blocks=1)
    initialise(network)
    scale = Geometry("resize-and-crop", size, size) if size else Geometry("none", 32, 32)
    header = Header.of(describe(network), direction, source, target, scale, {"images": images})
    path.parent.mkdir(parents=True, exist_ok=True)
    save(network, header, path)
    return path


def write_run(path, *counts, directions=("ab", "ba")):
    run = Run(path)
    path.mkdir(exist_ok=True)
    run.config.write_text("format: 1\nmethod: cyclegan\n")
    for count in counts:
        for number, way in enumerate(directions):
            write_model(run.snapshot(count, way), way, seed=count + number, images=count)
    return run


def picture(height=40, width=48, channels=3, dtype=np.uint8, top=255):
    rng = np.random.default_rng(height)
    coarse = rng.integers(0, top, (height // 8, width // 8, channels)).astype(dtype)
    return coarse.repeat(8, 0).repeat(8, 1)


def encoded(pixels, format="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, format, **options)
    return file.getvalue()


def pixels_of(answer):
    assert answer.status_code == 200, answer.text
    return np.array(Image.open(io.BytesIO(answer.content)))


def error(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    (line,) = answer.json().values()
    assert "\n" not in line
    return line


class Client:
    """Sends requests to an application in this process, also from several threads at a time."""

    def __init__(self, loop, service, access):
        self.loop, self.service = loop, service
        transport = httpx.ASGITransport(server.application(service, access), raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")
        self.life = service.running(None)
        self.wait(self.life.__aenter__())

    def wait(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def get(self, path, **options):
        return self.wait(self.http.get(path, **options))

    def post(self, path, **options):
        return self.wait(self.http.post(path, **options))

    def close(self):
        self.wait(self.http.aclose())
        self.wait(self.life.__aexit__(None, None, None))


def make_service(*paths, limits=DEFAULTS, follow=False, load=load, said=None):
    loader = models.Loader(load)
    found = models.open_models(paths, follow=follow, loader=loader)
    notify = [].append if said is None else said.append
    return service.Service(found, loader, limits, follow=follow, notify=notify)


@contextlib.contextmanager
def served(*paths, access=LOCAL, **options):
    """The address of a server in a thread, and its state."""
    service = make_service(*paths, **options)
    with listen("127.0.0.1", 0) as listening:
        program = Server(server.application(service, access), service.drain)
        thread = threading.Thread(target=program.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", service
        finally:
            program.should_exit = True
            thread.join(10)
        assert not thread.is_alive()
