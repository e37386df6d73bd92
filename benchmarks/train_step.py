"""Time a training step as public code writes it (plain) and as twofold runs it (ours), in one process.

    python benchmarks/train_step.py --size 128 --record step-128
    python benchmarks/train_step.py --size 256 --memory
    python benchmarks/train_step.py --size 256 --batch 1 4 16      (the default on a GPU)

The plain step (benchmarks/plain.py) is float32, one image a call, not compiled, with torch's own thread count. On a GPU
a third side, tuned, is the plain step with what torch alone gives: bf16 autocast, channels-last and torch.compile. All
sides train networks of the same shape on the same images, in alternation. On a GPU a round has many steps without
waiting for it, as a run has. Quote the ratio of the minima: other load on the machine only adds time. If other
processes keep the cores busy, `--threads 1 --clock cpu` counts the CPU time of this process. Needs torch, numpy, Pillow
and safetensors alone.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))
import plain
from record import measurement

from twofold import hardware
from twofold.methods.adversarial import BCE
from twofold.methods.base import Batch, Method
from twofold.methods.cut import CUT
from twofold.methods.cyclegan import CycleGAN
from twofold.methods.pix2pix import Pix2Pix
from twofold.networks.discriminators import MultiDiscriminator, PatchDiscriminator
from twofold.networks.layers import initialise
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.resnet_skips import SkipResnetGenerator
from twofold.networks.unet import UnetGenerator
from twofold.training import machine
from twofold.training.capture import WARM_UP
from twofold.training.checkpointing import checkpoint_blocks
from twofold.training.trainer import Trainer

Run = Callable[[], object]

STEPS_A_ROUND = {"cuda": 20}
"""Steps between two waits for the device; elsewhere one."""


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, nargs="+", help="default: 1, on a GPU 1 4 16")
    parser.add_argument("--method", choices=["cyclegan", "cut", "pix2pix"], default="cyclegan")
    parser.add_argument("--preset", choices=["seasons"], help="the demo's networks; times ours only")
    parser.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    parser.add_argument(
        "--compile", choices=["auto", "on", "off"], default="auto", help="ours, as in `train`"
    )
    parser.add_argument("--capture", action="store_true", help="ours: graphs on a GPU without compiling too")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="default: torch's own number")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--checkpoint", action="store_true", help="ours as with machine.checkpoint")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead of time")
    parser.add_argument(
        "--side", choices=["plain", "tuned", "ours"], help="run one side alone and print its memory"
    )
    parser.add_argument("--malloc", action="store_true", help="leave the system's memory allocator as it is")
    parser.add_argument("--record", metavar="NAME", help="keep the figures in benchmarks/records/DATE-NAME")
    options = parser.parse_args()
    device = hardware.pick_device()
    options.batch = options.batch or ([1, 4, 16] if device.type == "cuda" else [1])
    if options.precision == "auto":
        options.precision = "bf16" if hardware.fast_bf16(device) else "float32"
    if not options.malloc:
        hardware.keep_freed_memory()  # as `twofold train` does; plain gains by it too
    torch.backends.cudnn.benchmark = device.type == "cuda"  # as the originals do, and `train`
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.side:
        options.batch = options.batch[0]
        print(peak_memory(options, device))
        return
    if os.getloadavg()[0] > 0.5:
        print("other processes are running: trust the minima, and repeat", file=sys.stderr)
    facts = {
        "device": hardware.describe(device)["device"],
        "precision": options.precision,
        "threads": torch.get_num_threads(),
    }
    with measurement(options.record, **facts) as figures:
        for batch in options.batch:
            each = argparse.Namespace(**vars(options) | {"batch": batch})
            found = memories(each) if options.memory else times(each, device)
            figures |= {f"batch_{batch}_{name}": x for name, x in found.items()} if batch > 1 else found
        for name, value in figures.items():
            print(f"{name:<24} {value:.4g}")


# ---- the two sides


def networks(options: argparse.Namespace) -> Method:
    """Our method, with networks of the plain side's shape."""
    width, blocks = options.width, 9 if options.size >= 256 else 6
    if options.preset:
        generators = [SkipResnetGenerator(width=24, blocks=4, halvings=1, upsample="resize") for _ in "ab"]
        discriminators = [
            MultiDiscriminator([[PatchDiscriminator(width=24, layers=n) for n in (3, 1)]]) for _ in "ab"
        ]
        return CycleGAN(*generators, *discriminators, cycle_a=2, cycle_b=2, replay=0, recent_updates=2)
    if options.method == "cyclegan":
        generators = [ResnetGenerator(width=width, blocks=blocks) for _ in "ab"]
        return CycleGAN(*generators, *[PatchDiscriminator(width=width) for _ in "ab"])
    if options.method == "pix2pix":
        disc_b = PatchDiscriminator(6, width, norm="batch")
        return Pix2Pix(UnetGenerator(width=width, depth=depth(options.size)), disc_b, adversarial=BCE)
    generator = ResnetGenerator(width=width, blocks=blocks, antialias=True, upsample="blur")
    return CUT(generator, PatchDiscriminator(width=width, antialias=True))


def depth(size: int) -> int:
    return min(8, (size & -size).bit_length() - 1)


def plain_side(options: argparse.Namespace, device: torch.device) -> Run:
    twin, (a, b) = plain_twin(options, device), images(options, device)
    return lambda: twin.step(a, b)


def tuned_side(options: argparse.Namespace, device: torch.device) -> Run:
    """The plain step in bf16, channels-last and compiled."""
    twin = plain_twin(options, device)
    for network in twin.networks.values():
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        network.compile()
    a, b = (x.contiguous(memory_format=torch.channels_last) for x in images(options, device))

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            twin.step(a, b)

    return run


def plain_twin(options: argparse.Namespace, device: torch.device) -> plain.Plain:
    width, blocks = options.width, 9 if options.size >= 256 else 6
    twin = {
        "cyclegan": lambda: plain.cyclegan(width, blocks),
        "pix2pix": lambda: plain.pix2pix(width, depth(options.size)),
        "cut": lambda: plain.cut(width, blocks),
    }[options.method]()
    for network in twin.networks.values():
        network.to(device)
        network.apply(first_weights)
    return twin


def first_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)


def our_side(options: argparse.Namespace, device: torch.device) -> Run:
    method = networks(options)
    for network in method.networks().values():
        initialise(network)
        if options.checkpoint:
            checkpoint_blocks(network)
    compiling = options.compile == "on" or (
        options.compile == "auto" and device.type == "cuda" and machine.can_compile(device)
    )
    capturing = device.type == "cuda" and (compiling or options.capture)
    trainer = Trainer(
        method,
        device=device,
        precision=options.precision,
        compiled=compiling,
        capture=capturing,
        channels_last=device.type == "cpu" or options.precision == "bf16",
        fused=device.type in ("cpu", "cuda"),
    )
    batch = Batch(*images(options, device))
    for _ in range(WARM_UP + 1 if compiling or capturing else 0):  # these are not part of a step's time
        trainer.step(batch, 2e-4)
    return lambda: trainer.step(batch, 2e-4)


SIDES = {"plain": plain_side, "tuned": tuned_side, "ours": our_side}


def compared(options: argparse.Namespace, device: torch.device) -> list[str]:
    """The sides to measure: ours alone for the demo's networks, which have no plain twin; tuned on a GPU."""
    if options.preset:
        return ["ours"]
    return ["plain", "tuned", "ours"] if device.type == "cuda" else ["plain", "ours"]


def images(options: argparse.Namespace, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    a, b = (torch.rand(options.batch, 3, options.size, options.size, generator=draws) * 2 - 1 for _ in "ab")
    return a.to(device), b.to(device)


# ---- the measurements


def times(
    options: argparse.Namespace, device: torch.device, names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Seconds of a step of each side, in alternation; and the machine's rate of matrix products."""
    sides = {name: SIDES[name](options, device) for name in names or compared(options, device)}
    seconds_by_side: dict[str, list[float]] = {name: [] for name in sides}
    rates, clock = [], CLOCKS[options.clock]
    for round_ in range(options.rounds + 1):
        for name, run in sides.items():
            spent = seconds(run, device, clock, STEPS_A_ROUND.get(device.type, 1))
            if round_:  # the first warms up
                seconds_by_side[name].append(spent)
        rates.append(matrix_rate(device, options.precision, clock))
    found: dict[str, Any] = {}
    for name, values in seconds_by_side.items():
        found |= {f"{name}_s": statistics.median(values), f"{name}_min_s": min(values)}
        found |= {f"{name}_images_per_s": options.batch / min(values)}
    found |= {"matrix_tflops": max(rates)}
    if "plain" in sides:
        with FlopCounterMode(display=False) as counter:
            sides["plain"]()
        found["gflop"] = counter.get_total_flops() / 1e9
        found["ratio"] = found["plain_min_s"] / found["ours_min_s"]
        found["ratio_of_medians"] = found["plain_s"] / found["ours_s"]
        found["rate_share"] = found["gflop"] / 1e3 / found["ours_min_s"] / found["matrix_tflops"]
    if "tuned" in sides:
        found["ratio_to_tuned"] = found["tuned_min_s"] / found["ours_min_s"]
    return found


def seconds(run: Run, device: torch.device, clock: Callable[[], float], times: int = 1) -> float:
    """Of one of so many calls."""
    start = clock()
    for _ in range(times):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (clock() - start) / times


def matrix_rate(device: torch.device, precision: str, clock: Callable[[], float]) -> float:
    """TFLOP/s of a large matrix product, the best of three."""
    n = 8192 if device.type == "cuda" else 1536
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.rand(n, n, device=device, dtype=dtype) for _ in "ab")
    return 2 * n**3 / min(seconds(lambda: a @ b, device, clock) for _ in range(3)) / 1e12


def memories(options: argparse.Namespace) -> dict[str, float]:
    """Peak memory of each side, in a process of its own, in MB."""
    found = {}
    for side in compared(options, hardware.pick_device()):
        arguments = {
            name: getattr(options, name)
            for name in ("size", "width", "method", "precision", "batch", "compile")
        }
        arguments |= {"side": side, "threads": options.threads or torch.get_num_threads()}
        command = [sys.executable, __file__, *(f"--{name}={value}" for name, value in arguments.items())]
        if side != "ours" or options.malloc:
            command.append("--malloc")  # public code leaves it as it is
        command += [f"--{name}" for name in ("checkpoint", "capture") if getattr(options, name)]
        found[f"{side}_mb"] = (
            float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e6
        )
    if "plain_mb" in found:
        found["memory_ratio"] = found["ours_mb"] / found["plain_mb"]
    return found


def peak_memory(options: argparse.Namespace, device: torch.device) -> int:
    """Peak bytes of building the networks and of three steps: allocated on a GPU, additional resident memory on a CPU."""
    before = resident()
    run = SIDES[options.side](options, device)
    for _ in range(3):
        run()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
