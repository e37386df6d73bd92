"""Check twofold on one GPU in at most 8 minutes, then train on real photographs for the remaining time and judge it.

    python benchmarks/gpu_day.py horse2zebra --record gpu-day
    GPU_DAY_DEVICE=cpu python benchmarks/gpu_day.py horse2zebra --minutes 3      (a rehearsal without a GPU)

`horse2zebra` is a dataset root with trainA, trainB, testA and testB: `twofold data download horse2zebra`. The checks, in
the order in which one depends on another:

    eager       steps of every method run without a warning
    capture     a step captured as a graph equals the eager one to the bit
    failure     a capture that fails ends in one line; random numbers and memory can be used afterwards
    fp16        the loss follows that of float32; the scaler is captured too
    runs        a deterministic run is repeatable, and after a kill resumes, to the bit
    memory      of a step with and without graphs, and with five critic steps; checkpointing and graphs together
    compile     compiled steps stay near eager ones
    speed       images/s of plain, tuned and our steps (see train_step.py), for batch 1, 4 and 16
    photographs a run of 256 px in the remaining time, its translations' distance (SWD) from the real images, and KID if
                Inception's weights are installed

Each check prints PASS or FAIL and its figures, and a check that fails does not stop the others. A check for which less
than its share of the time is left is skipped and printed. The exit code is 1 if one failed.
"""

import argparse
import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else CUDA refuses to be deterministic

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import train_step
from record import measurement

from twofold import Translator, hardware
from twofold.config import compose
from twofold.errors import UsageError
from twofold.evaluation.features import inception_home
from twofold.formats import images as pictures
from twofold.formats.values import to_network
from twofold.methods.base import Batch
from twofold.metrics.swd import SlicedWasserstein
from twofold.runs import Run, read_lines
from twofold.training.build import build
from twofold.training.capture import CaptureFailed
from twofold.training.session import own_torch_state
from twofold.training.trainer import Trainer

DEVICE = torch.device(os.environ.get("GPU_DAY_DEVICE", "cuda:0"))
CUDA = DEVICE.type == "cuda"

BASE = {
    **{"a": "A", "b": "B", "data": {"size": 64, "channels_a": 3, "channels_b": 3}, "training": {"ema": 100}},
    **{"generator": {"width": 16}, "discriminator": {"width": 16, "layers": 2}},
}
KINDS: dict[str, dict[str, Any]] = {
    "cyclegan": {"cyclegan": {"replay": 2}},
    "augmented": {
        "adversarial": {"loss": "hinge", "r1": 1.0, "augment": ["colour", "translation", "cutout"]}
    },
    "critic steps": {"adversarial": {"loss": "wgan", "critic_steps": 5}, "discriminator": {"norm": "none"}},
    "spectral": {"discriminator": {"spectral": True, "scales": 2}, "generator": {"upsample": "resize"}},
    "recent": {"cyclegan": {"recent_updates": 2, "replay": 0}, "discriminator": {"extra_layers": [1]}},
    "pix2pix": {"method": "pix2pix", "data": {"paired": True, "size": 256}},
    "cut": {"method": "cut"},
    "fastcut": {"method": "fastcut"},
    "dropout": {"generator": {"dropout": True}},
}
FULL = {"data": {"size": 256}, "generator": {"width": 64}, "discriminator": {"width": 64, "layers": 3}}
STEPS = 24 if CUDA else 3
TESTED = KINDS if CUDA else {name: KINDS[name] for name in ("cyclegan", "critic steps", "fastcut")}

SHARES = {
    **{"eager": 0.1, "capture": 0.1, "failure": 0.05, "fp16": 0.05, "runs": 0.15, "memory": 0.1},
    **{"compile": 0.3, "speed": 0.3, "photographs": 0.15},
}
"""The share of the whole time that must be left for each check."""

Figures = dict[str, Any]


class Failed(Exception):
    """A check found a fault; the message says which."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photographs", type=Path, help="a dataset root: trainA, trainB, testA, testB")
    parser.add_argument("--minutes", type=float, default=8, help="for everything")
    parser.add_argument("--only", nargs="+", choices=list(SHARES), default=list(SHARES), metavar="CHECK")
    parser.add_argument("--record", metavar="NAME", help="keep the figures in benchmarks/records/DATE-NAME")
    options = parser.parse_args()
    try:
        hardware.pick_device(str(DEVICE))
    except UsageError as error:
        parser.error(str(error))
    deadline = time.monotonic() + 60 * options.minutes
    checks: dict[str, Callable[[], Figures]] = {
        **{check.__name__: check for check in (eager, capture, failure, fp16, runs, memory, compile)},
        "speed": lambda: speed(deadline),
        "photographs": lambda: photographs(options.photographs, deadline),
    }
    failed = []
    with measurement(options.record, device=hardware.describe(DEVICE)["device"]) as figures:
        for name in options.only:
            left = deadline - time.monotonic()
            if left < 60 * options.minutes * SHARES[name]:
                print(f"{name}: skipped, {left:.0f} s are left", flush=True)
            elif not run_check(name, checks[name], figures):
                failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "no check failed")
    return 1 if failed else 0


def run_check(name: str, check: Callable[[], Figures], figures: Figures) -> bool:
    """Run one check and print its outcome; whether it found no fault."""
    started, error = time.monotonic(), None
    try:
        figures[name] = check()
    except Failed as fault:
        error = str(fault)
    except Exception:
        error = traceback.format_exc()
    shown = ", ".join(f"{key} {value}" for key, value in figures.get(name, {}).items())
    print(
        f"{name}: {'FAIL' if error else 'PASS'} ({time.monotonic() - started:.0f} s) {error or shown}",
        flush=True,
    )
    gc.collect()
    if CUDA:
        torch.cuda.empty_cache()
    return error is None


def ensure(fact: bool, otherwise: str) -> None:
    if not fact:
        raise Failed(otherwise)


# ---- steps


def trainer(settings: Mapping[str, Any], **how: Any) -> tuple[Trainer, int]:
    """A trainer as a run on a GPU has it, and the size of its images."""
    config = compose(BASE, settings)
    usual = {"precision": "bf16" if CUDA else "float32", "channels_last": True, "fused": True, "ema": 100}
    return Trainer(build(config), device=DEVICE, **usual | how), config.data.size


def train(
    settings: Mapping[str, Any], steps: int = STEPS, **how: Any
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """The losses of each step and the last weights, on images that depend on the step alone."""
    made, size = trainer(settings, **how)
    reports, draws = [], torch.Generator().manual_seed(0)
    for step in range(steps):
        a, b = (torch.rand(1, 3, size, size, generator=draws) * 2 - 1 for _ in "ab")
        made.step(Batch(a.to(DEVICE), b.to(DEVICE)), 2e-4 * (1 - step / steps))
        reports.append(made.sums.report())
    return reports, {name: x.float().cpu() for name, x in made.method.state_dict().items()}


def distance(one: list[dict[str, float]], other: list[dict[str, float]]) -> float:
    """The largest relative difference of a loss."""
    pairs = zip(one, other, strict=True)
    return max(abs(x[name] - y[name]) / (abs(y[name]) + 1e-2) for x, y in pairs for name in y)


# ---- the checks


def eager() -> Figures:
    heard = {}
    for name, settings in TESTED.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(settings, steps=3)
        heard |= {name: str(caught[0].message)[:100]} if caught else {}
    ensure(not heard, f"warnings: {heard}")
    return {"kinds": len(TESTED)}


def capture() -> Figures:
    """Deterministic, so that both run the same kernels."""
    different = []
    with own_torch_state(DEVICE, 1, deterministic=True, one_size=True):
        for name, settings in TESTED.items():
            steps = max(STEPS, 2 * compose(BASE, settings).adversarial.critic_steps)
            eager, graph = train(settings, steps), train(settings, steps, capture=CUDA)
            if eager[0] != graph[0] or any(not torch.equal(x, graph[1][key]) for key, x in eager[1].items()):
                different.append(f"{name} (losses by {distance(graph[0], eager[0]):.1e})")
    ensure(not different, f"different: {', '.join(different)}")
    return {"kinds": len(TESTED)} | ({} if CUDA else {"captured": "no, this is a CPU"})


def failure() -> Figures:
    """A step that asks the device while it is recorded."""
    if not CUDA:
        return {"captured": "no, this is a CPU"}
    made, size = trainer({}, capture=True)
    assert made.capture is not None
    learn = made.capture.learn

    def asks(batch: Batch) -> None:
        learn(batch)
        if torch.cuda.is_current_stream_capturing():
            batch.a.sum().item()

    made.capture.learn = asks
    image, line = torch.rand(1, 3, size, size, device=DEVICE), ""
    try:
        for _ in range(8):
            made.step(Batch(image, image), 2e-4)
    except CaptureFailed as error:
        line = str(error)
    ensure("cannot record a step" in line and "\n" not in line, f"the line is {line!r}")
    torch.manual_seed(0)
    torch.rand(8, device=DEVICE).sum().item()
    del made
    gc.collect()
    figures = {"line": line}
    if torch.__version__ >= "2.13":  # earlier versions end the program here
        torch.cuda.empty_cache()
        figures["reserved_mb"] = round(torch.cuda.memory_reserved() / 1e6)
    return figures


def fp16() -> Figures:
    half, exact = (train({}, precision=each, capture=CUDA) for each in ("fp16", "float32"))
    found = distance(half[0][:3], exact[0][:3])
    ensure(found < 0.2, f"losses differ by {found:.2g}")
    return {"losses_differ_by": f"{found:.1e}"}


def runs() -> Figures:
    """Whole runs by the command line: twice alike, and a third time killed and resumed."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        count, size, width = (60, 64, 16) if CUDA else (8, 32, 4)
        twofold("data", "make", "seasons", home / "s", "--count", count, "--size", size)
        words = ["train", home / "s/trainA", home / "s/trainB", "--size", size, "--machine.deterministic"]
        words += ["--generator.width", width, "--discriminator.width", width, "--val", "none"]
        words += ["--epochs", 1, "--decay-epochs", 1, "--training.state-every", count // 2]
        words += ["--device", DEVICE.type, "--compile", "off"]
        words += ["--machine.capture"] * CUDA
        for name in ("one", "two"):
            twofold(*words, "--out", home / name)
        killed = start(*words, "--out", home / "three")
        while killed.poll() is None and not Run(home / "three").states():
            time.sleep(0.02)
        killed.kill()
        killed.wait()
        twofold(*words, "--out", home / "three")
        states = [Run(home / name).states()[-1][1] / "state.safetensors" for name in ("one", "two", "three")]
        one, two, three = (state.read_bytes() for state in states)
    ensure(one == two, "two deterministic runs differ")
    ensure(one == three, "a run that was killed and resumed differs")
    return {"equal": "to the bit"}


def memory() -> Figures:
    critic = {"adversarial": {"loss": "hinge", "critic_steps": 5}}
    full, steps = (FULL, 21) if CUDA else ({}, 2)
    cases = {
        "eager_mb": ({}, {}),
        "graph_mb": ({}, {"capture": CUDA}),
        "critic_steps_eager_mb": (critic, {}),
        "critic_steps_graph_mb": (critic, {"capture": CUDA}),
        "checkpointed_graph_mb": ({"machine": {"checkpoint": True}}, {"capture": CUDA}),
    }
    figures = {}
    for name, (settings, how) in cases.items():
        gc.collect()
        if CUDA:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        train({**full, **settings}, steps, **how)
        figures[name] = round(torch.cuda.max_memory_reserved() / 1e6) if CUDA else "not measured"
    return figures


def compile() -> Figures:
    if not CUDA:
        return {"compiled": "no, this is a CPU"}
    figures = {}
    for name in ("cyclegan", "cut"):
        torch.compiler.reset()
        started = time.monotonic()
        both = train(KINDS[name], 8, compiled=True, capture=True)
        figures[f"{name}_s"] = round(time.monotonic() - started)
        found = distance(both[0][:4], train(KINDS[name], 8)[0][:4])
        ensure(found < 0.2, f"{name}: losses differ by {found:.2g}")
        figures[f"{name}_losses_differ_by"] = f"{found:.1e}"
    return figures


def speed(deadline: float) -> Figures:
    """CycleGAN at 256 px; compiled with batch 1 alone, as compiling takes most of the time."""
    size, width = (256, 64) if CUDA else (32, 4)
    usual = {"size": size, "width": width, "method": "cyclegan", "preset": None, "rounds": 2, "clock": "wall"}
    usual |= {"precision": "bf16" if CUDA else "float32", "checkpoint": False, "capture": CUDA}
    figures = {}
    for batch, compiled in ((1, "off"), (4, "off"), (16, "off"), (1, "on")):
        if compiled == "on" and (not CUDA or deadline - time.monotonic() < 180):
            continue
        options = argparse.Namespace(**usual, batch=batch, compile=compiled)
        wanted = train_step.compared(options, DEVICE) if compiled == "on" else ["plain", "ours"]
        found = train_step.times(options, DEVICE, wanted)
        name = f"batch_{batch}" + "_compiled" * (compiled == "on")
        figures |= {f"{name}_{side}_images_per_s": f"{found[f'{side}_images_per_s']:.3g}" for side in wanted}
    return figures


def photographs(root: Path, deadline: float) -> Figures:
    """A run of the paper's networks, ended by SIGTERM when its time is over."""
    for_judging = 40 if CUDA else 20
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "run"
        words = ["train", root / "trainA", root / "trainB", "--val", "none", "--device", DEVICE.type]
        words += ["--epochs", 100, "--generator.upsample", "resize", "--compile", "off", "--out", out]
        words += ["--training.snapshot-every", 200 if CUDA else 5]
        words += (
            ["--size", 256] if CUDA else ["--size", 32, "--generator.width", 4, "--discriminator.width", 4]
        )
        process, lines = start(*words), ""
        try:
            lines, _ = process.communicate(timeout=max(10.0, deadline - time.monotonic() - for_judging))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            lines, _ = process.communicate(timeout=60)
        ensure(process.returncode in (0, 130), f"train ended with {process.returncode}: {lines[-500:]}")
        return judged(out, root) | {"images": Run(out).states()[-1][0]}


def judged(out: Path, root: Path) -> Figures:
    """How far the translations of testA are from testB, and how far testA itself is; smaller is better."""
    figures: Figures = {}
    timing = read_lines(Run(out).timing)
    figures["images_per_s"] = max((row["images_per_s"] for row in timing), default=0)
    translator = Translator.load(out, device=DEVICE)
    sources, targets = (
        [pictures.read(path) for path in pictures.find(root / name)][:60] for name in ("testA", "testB")
    )
    outputs = [translator(source) for source in sources]
    side = min(min(image.shape[:2]) for image in (*targets, *outputs))
    measure = SlicedWasserstein((values(image, translator) for image in targets), len(targets), side)
    for name, each in (("swd", outputs), ("swd_untouched", sources)):
        patches = [measure.patches(values(x, translator), i, len(each)) for i, x in enumerate(each)]
        figures[name] = f"{measure.distance(patches).value:.3f}"
    if inception_home().is_file():
        found = twofold("evaluate", out, root / "testA", root / "testB", "--metrics", "kid", "--json")
        figures["kid"] = found.stdout[-300:]
    return figures


def values(image: np.ndarray, translator: Translator) -> torch.Tensor:
    return to_network(torch.from_numpy(np.array(image.transpose(2, 0, 1))), translator.target)


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "twofold", *map(str, words)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def twofold(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "twofold", *map(str, words)]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    ensure(
        not check or done.returncode == 0,
        f"{' '.join(command[2:5])} ended with {done.returncode}: {done.stderr[-500:]}",
    )
    return done


if __name__ == "__main__":
    sys.exit(main())
