"""Fixtures of all tests: one thread each, a cache folder of their own; tiny runs in processes that can be killed."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from twofold.cli import app as cli
from twofold.formats import images
from twofold.methods.cyclegan import CycleGAN
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.layers import initialise
from twofold.networks.resnet import ResnetGenerator
from twofold.runs import Run

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_surroundings(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("TWOFOLD_CACHE", str(cache(tmp_path_factory)))
    for name in [name for name in os.environ if name.startswith("TWOFOLD_SET_")]:
        monkeypatch.delenv(name)
    yield


@pytest.fixture(scope="session")
def load_benchmark() -> Iterator[Callable[[str], ModuleType]]:
    """Makes a module of a program in benchmarks/, which is no package: load_benchmark("plain")."""
    loaded: list[str] = []

    def load(name: str) -> ModuleType:
        path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[spec.name] = importlib.util.module_from_spec(
            spec
        )  # where dataclasses look it up
        loaded.append(spec.name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in loaded:
        sys.modules.pop(name, None)


def cache(factory: pytest.TempPathFactory) -> Path:
    return factory.getbasetemp() / "cache"


TINY: dict[str, object] = {
    **{"size": 16, "epochs": 2, "decay_epochs": 2, "device": "cpu"},
    **{"generator.width": 2, "discriminator.width": 2, "discriminator.layers": 1, "cyclegan.replay": 2},
    **{"training.ema": 6, "training.samples": 1, "training.report_every": 4, "training.state_every": 3},
    **{"training.snapshot_every": 6, "machine.threads": 1, "machine.precision": "float32"},
    **{"machine.channels_last": False, "machine.fused": False},
}
"""A training of 12 images on `Lab.a` and `Lab.b`: 3 pairs an epoch."""


class Ended(NamedTuple):
    """How a process ended."""

    code: int | list[int]
    """Exit code; -9 where it was killed; of several processes a list."""
    output: str


class Lab:
    """Two folders of images, and a process that forks a training for each request."""

    def __init__(self, home: Path) -> None:
        self.home, self.count = home, 0
        self.a, self.b = fill(home / "A", 3), fill(home / "B", 2)
        self.process: subprocess.Popen[str] | None = None

    def tokens(self, out: Path, **changes: object) -> list[str]:
        """The command line of a tiny training, other than `TINY` by `changes`: optim__lr=1e-3.

        Of the methods' own settings it has those of its method.
        """
        settings = TINY | {name.replace("__", "."): value for name, value in changes.items()}
        others = {"cyclegan", "pix2pix", "cut"} - {
            str(settings.get("method", "cyclegan")).removeprefix("fast")
        }
        settings = {name: value for name, value in settings.items() if name.split(".")[0] not in others}
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        return ["train", str(self.a), str(self.b), "--out", str(out), *flags]

    def start(
        self,
        tokens: list[str],
        sabotage: tuple[str, int] | None = None,
        seconds: float = 600,
        ranks: int = 1,
    ) -> None:
        """Start a command in a process of its own, or in several."""
        self.count += 1
        about = {
            "log": str(self.log),
            "sabotage": sabotage,
            "seconds": seconds,
            "ranks": ranks,
            "end": str(self.end),
        }
        request = {"tokens": tokens, **about}
        if self.process is None:
            self.process = self._nursery()
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def kill(self) -> Ended:
        """Kill what was started."""
        self.end.touch()
        return self.finish()

    @property
    def end(self) -> Path:
        return self.log.with_suffix(".end")

    def _nursery(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TWOFOLD_CACHE": str(self.home / "cache")}
        return subprocess.Popen(
            [sys.executable, "-W", "error", Path(__file__).parent / "training" / "nursery.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def finish(self) -> Ended:
        """Wait for the command that was started."""
        assert self.process is not None and self.process.stdout is not None
        code = json.loads(self.process.stdout.readline())
        return Ended(code, self.log.read_text())

    def run(
        self,
        tokens: list[str],
        sabotage: tuple[str, int] | None = None,
        seconds: float = 600,
        ranks: int = 1,
    ) -> Ended:
        """Run a command in a process of its own, which is killed at a sabotage, or when its time is over."""
        self.start(tokens, sabotage, seconds, ranks)
        return self.finish()

    @property
    def log(self) -> Path:
        return self.home / f"{self.count}.log"

    def close(self) -> None:
        if self.process is None:
            return
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    @staticmethod
    def outcome(out: Path) -> dict[str, bytes]:
        """What equal runs share byte for byte: all but the clocks, the machine and the report that shows them."""
        run = Run(out)
        files = [run.metrics, run.data, *(out / "snapshots").iterdir(), *(out / "samples").iterdir()]
        files += [run.evaluations] if run.evaluations.is_file() else []
        files += [file for _, folder in run.states() for file in folder.glob("*.safetensors")]
        return {str(file.relative_to(out)): file.read_bytes() for file in files}


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("lab"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def finished(lab: Lab) -> Path:
    """A run of 12 images that nothing disturbed."""
    out = lab.home / "finished"
    assert lab.run(lab.tokens(out)).code == 0
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be damaged."""
    return shutil.copytree(finished, tmp_path / "copied")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command line here; its exit code and what it said, on either stream."""

    def run(*tokens: object) -> Ended:
        code = cli.run([str(token) for token in tokens])
        return Ended(code, "".join(capsys.readouterr()))

    return run


@pytest.fixture
def many() -> Callable[[Path, int], Path]:
    """`many(folder, count)` makes a folder of so many images."""
    return fill


FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Debian's Chromium, driven by Playwright; started once."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=program, args=["--no-sandbox", *FAKE_CAMERA])
        yield running
        running.close()


@pytest.fixture
def show(browser: object) -> Iterator[Callable[..., object]]:
    """`show(address, width=1280, height=900, **options)` opens a page; the test fails if its console says a word."""
    contexts, complaints = [], []

    def open_page(address: str, width: int = 1280, height: int = 900, **options: object) -> object:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(8000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.complaints = complaints
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """`until(condition)` waits for it, at most eight seconds."""

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 8
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    return wait


def fill(folder: Path, count: int, side: int = 20) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        rng = np.random.default_rng([i, *folder.name.encode()])
        images.write(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), folder / f"{i}.png")
    return folder


@pytest.fixture
def tiny() -> Callable[..., CycleGAN]:
    """Makes a CycleGAN of about 2,000 weights: tiny(replay=0), the same weights each time."""

    def make(**switches: float) -> CycleGAN:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            generators = [ResnetGenerator(3, 3, width=2, blocks=1) for _ in range(2)]
            discriminators = [PatchDiscriminator(3, width=2, layers=1) for _ in range(2)]
            for network in (*generators, *discriminators):
                initialise(network, "normal", 0.2)
        return CycleGAN(*generators, *discriminators, **{"replay": 2, **switches})  # pyright: ignore[reportArgumentType]

    return make
