"""Compare the speed of two checkouts: training steps of CycleGAN, CUT and pix2pix, and translation.

    git worktree add ../before v0.1
    python benchmarks/compare_commits.py ../before . --record rebuild

Each side runs in a process of its own, with its checkout on PYTHONPATH. A run is `twofold train` itself, stopped
before each step until it is that side's turn. So whole steps of the loop are timed, with loading. The two processes
of a method stay alive and take turns, in the order before, after, after, before. Two turns warm up. The table shows
the median seconds of a step (or of a translated image) over the rounds, and the ratio before/after of each round: its
median and range. A ratio above 1 means that `after` is faster.

Ten rounds of 5 seconds for all four methods take about 10 minutes. Change nothing else on the machine meanwhile.
"""

import argparse
import importlib
import importlib.abc
import importlib.util
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

METHODS = ("cyclegan", "cut", "pix2pix", "translation")
NEVER = str(10**9)
"""Images until the next report, sample grid, snapshot or state: none falls into a turn."""


# ---- the program that compares


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="a checkout")
    parser.add_argument("after", type=Path, help="another checkout")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=5, help="length of a turn; at least one step")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--width", type=int, default=32, help="of generators and discriminators")
    parser.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    parser.add_argument("--threads", type=int, help="as many as cores unless given")
    parser.add_argument("--record", metavar="NAME", help="keep the figures in benchmarks/records/DATE-NAME")
    options = parser.parse_args()
    from record import commit, measurement

    checkouts = {"before": options.before.resolve(), "after": options.after.resolve()}
    commits = {side: f"{side} {commit(path)}" for side, path in checkouts.items()}
    with measurement(options.record, compared=commits) as figures, tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), 16, options.size)
        print(f"\n{'':<12}{'before':>10}{'after':>10}   before/after: median (range)", flush=True)
        for method in options.methods:
            times = take_turns(method, checkouts, Path(folder), options)
            figures[method] = summarise(times)
            print(row(method, figures[method]), flush=True)


def make_images(folder: Path, count: int, size: int) -> None:
    """Two folders, A and B, of smooth noise; equal names make them pairs too."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for side in "AB":
        (folder / side).mkdir()
        for i in range(count):
            coarse = rng.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((size, size)).save(folder / side / f"{i}.png")


def take_turns(
    method: str, checkouts: dict[str, Path], folder: Path, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds of a step for each side and round."""
    times: dict[str, list[float]] = {side: [] for side in checkouts}
    workers = {side: Worker(side, path, method, folder, options) for side, path in checkouts.items()}
    try:
        for worker in [
            *workers.values()
        ] * 2:  # the first turn may be one step, in which kernels are compiled
            worker.turn(options.seconds)
        for round_ in range(options.rounds):
            for side in list(workers) if round_ % 2 == 0 else reversed(workers):
                times[side].append(workers[side].turn(options.seconds))
    finally:
        for worker in workers.values():
            worker.close()
    return times


def summarise(times: dict[str, list[float]]) -> dict[str, Any]:
    ratios = [before / after for before, after in zip(times["before"], times["after"], strict=True)]
    return {
        "before_s": statistics.median(times["before"]),
        "after_s": statistics.median(times["after"]),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "rounds": times,
    }


def row(method: str, found: dict[str, Any]) -> str:
    spread = f"{found['ratio']:.3f} ({found['ratio_min']:.3f} to {found['ratio_max']:.3f})"
    return f"{method:<12}{found['before_s']:>8.3f} s{found['after_s']:>8.3f} s   {spread}"


class Worker:
    """One side's process for one method."""

    def __init__(
        self, side: str, checkout: Path, method: str, folder: Path, options: argparse.Namespace
    ) -> None:
        job = {"method": method, "folder": str(folder), "out": str(folder / f"{side}-{method}")}
        job |= {name: getattr(options, name) for name in ("size", "width", "precision", "threads")}
        self.log = folder / f"{side}-{method}.log"
        own = {"PYTHONPATH": str(checkout), "TWOFOLD_CACHE": str(folder / f"{side}-cache")}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), "--worker", json.dumps(job)],
                cwd=folder,
                env=os.environ | own,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def turn(self, seconds: float) -> float:
        """Let the process run for so long; its seconds of a step."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            sys.exit(f"a worker ended: {self.process.args}\n{self.log.read_text()[-3000:]}")
        return float(json.loads(answer)["seconds_per_step"])

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


# ---- a worker: uses only what both checkouts have


def work(job: dict[str, Any]) -> None:
    """Train or translate for ever, in turns that the parent starts."""
    turns = Turns()
    if job["method"] == "translation":
        translate(job, turns)
    else:
        train(job, turns)


class Turns:
    """Waits on standard input for a turn's seconds, and answers with the seconds of a step once they have passed."""

    def __init__(self) -> None:
        self.answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what twofold prints goes to the log
        self.seconds, self.start, self.steps = 0.0, None, 0

    def before_step(self) -> None:
        wait_for_gpu()
        now = time.perf_counter()
        if self.start is not None and now - self.start >= self.seconds:
            self.answers.write(json.dumps({"seconds_per_step": (now - self.start) / self.steps}) + "\n")
            self.start = None
        if self.start is None:
            line = sys.stdin.readline()
            if not line:
                os._exit(0)
            self.seconds, self.steps, self.start = float(line), 0, time.perf_counter()
        self.steps += 1


def wait_for_gpu() -> None:
    torch = sys.modules["torch"]
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def train(job: dict[str, Any], turns: Turns) -> None:
    """Run `twofold train`, with a pause before each step of the trainer."""

    def add_pause(module: ModuleType) -> None:
        step = module.Trainer.step

        def paused(self: Any, *args: Any, **kwargs: Any) -> Any:
            turns.before_step()
            return step(self, *args, **kwargs)

        module.Trainer.step = paused

    after_import("twofold.training.trainer", add_pause)
    sys.argv = ["twofold", *train_command(job)]
    runpy.run_module("twofold", run_name="__main__", alter_sys=True)


def train_command(job: dict[str, Any]) -> list[str]:
    folder = Path(job["folder"])
    settings: dict[str, Any] = {"size": job["size"], "method": job["method"]}
    settings |= {"epochs": 10**6, "generator.width": job["width"], "discriminator.width": job["width"]}
    settings |= {f"training.{kind}-every": NEVER for kind in ("report", "sample", "snapshot", "state")}
    settings |= {"machine.precision": job["precision"]}
    settings |= {"machine.threads": job["threads"]} if job["threads"] else {}
    options = [token for name, value in settings.items() for token in (f"--{name}", str(value))]
    return ["train", str(folder / "A"), str(folder / "B"), "--out", job["out"], *options]


def after_import(name: str, change: Callable[[ModuleType], None]) -> None:
    """Call `change` on a module when it is imported: importing it now would import torch too early."""

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:  # noqa: ARG002
            if fullname != name:
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            assert spec is not None and spec.loader is not None
            run = spec.loader.exec_module

            def run_and_change(module: ModuleType) -> None:
                run(module)
                change(module)

            spec.loader.exec_module = run_and_change  # pyright: ignore[reportAttributeAccessIssue]
            return spec

    sys.meta_path.insert(0, Finder())


def translate(job: dict[str, Any], turns: Turns) -> None:
    """Translate one image again and again, with a ResNet-9 loaded from its file as `twofold translate` does."""
    import numpy as np
    import torch

    from twofold import Translator, hardware
    from twofold.networks.layers import initialise
    from twofold.networks.registry import describe
    from twofold.networks.resnet import ResnetGenerator
    from twofold.translation.header import Header

    hardware.keep_freed_memory()
    torch.set_num_threads(job["threads"] or torch.get_num_threads())
    torch.manual_seed(0)
    generator = ResnetGenerator(width=job["width"])
    initialise(generator)
    path = Path(job["out"]) / "model.safetensors"
    Translator(generator, Header(describe(generator), "ab", job["size"])).save(path)
    translator = Translator.load(path, precision=job["precision"])
    image = np.random.default_rng(0).integers(0, 256, (job["size"], job["size"], 3), dtype=np.uint8)
    while True:
        turns.before_step()
        translator.array(image)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(json.loads(sys.argv[2]))
    else:
        main()
