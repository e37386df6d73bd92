"""Time a training step as public code writes it (plain) and as twofold runs it (ours), in one process.

    python benchmarks/train_step.py --size 128 --record step-128
    python benchmarks/train_step.py --size 256 --memory

The plain step (benchmarks/plain.py) is float32, one image a call, not compiled, with torch's own thread count. Both
sides train networks of the same shape on the same images, in alternation. Quote the ratio of the minima: other load on
the machine only adds time. If other processes keep the cores busy, `--threads 1 --clock cpu` counts the CPU time of this
process. Needs torch, numpy, Pillow and safetensors alone.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
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

Run = Callable[[], None]


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--method", choices=["cyclegan", "cut", "pix2pix"], default="cyclegan")
    parser.add_argument("--preset", choices=["seasons"], help="the demo's networks; times ours only")
    parser.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    parser.add_argument(
        "--compile", choices=["auto", "on", "off"], default="auto", help="ours, as in `train`"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="default: torch's own number")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--checkpoint", action="store_true", help="ours as with machine.checkpoint")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead of time")
    parser.add_argument("--side", choices=["plain", "ours"], help="run one side alone and print its memory")
    parser.add_argument("--malloc", action="store_true", help="leave the system's memory allocator as it is")
    parser.add_argument("--record", metavar="NAME", help="keep the figures in benchmarks/records/DATE-NAME")
    options = parser.parse_args()
    device = hardware.pick_device()
    if options.precision == "auto":
        options.precision = "bf16" if hardware.fast_bf16(device) else "float32"
    if not options.malloc:
        hardware.keep_freed_memory()  # as `twofold train` does; plain gains by it too
    torch.backends.cudnn.benchmark = device.type == "cuda"  # as the originals do, and `train`
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.side:
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
        figures |= memories(options) if options.memory else times(options, device)
        for name, value in figures.items():
            print(f"{name:<16} {value:.4g}")


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
    width, blocks = options.width, 9 if options.size >= 256 else 6
    twin = {
        "cyclegan": lambda: plain.cyclegan(width, blocks),
        "pix2pix": lambda: plain.pix2pix(width, depth(options.size)),
        "cut": lambda: plain.cut(width, blocks),
    }[options.method]()
    for network in twin.networks.values():
        network.to(device)
        network.apply(first_weights)
    a, b = images(options, device)

    def run() -> None:
        {name: loss.item() for name, loss in twin.step(a, b).items()}

    return run


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
    trainer = Trainer(
        method,
        device=device,
        precision=options.precision,
        compiled=compiling,
        capture=compiling and device.type == "cuda" and not options.checkpoint,
        channels_last=device.type == "cpu" or options.precision == "bf16",
        fused=device.type in ("cpu", "cuda"),
    )
    batch = Batch(*images(options, device))
    for _ in range(WARM_UP if compiling else 0):  # compiling is not part of a step's time
        trainer.step(batch, 2e-4)
    return lambda: trainer.step(batch, 2e-4)


def images(options: argparse.Namespace, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    a, b = (torch.rand(options.batch, 3, options.size, options.size, generator=draws) * 2 - 1 for _ in "ab")
    return a.to(device), b.to(device)


# ---- the measurements


def times(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Seconds of a step of each side, in alternation; and the machine's rate of matrix products."""
    sides = {"ours": our_side(options, device)}
    if not options.preset:
        sides = {"plain": plain_side(options, device), **sides}
    seconds_by_side: dict[str, list[float]] = {name: [] for name in sides}
    rates = []
    for round_ in range(options.rounds + 1):
        for name, run in sides.items():
            spent = seconds(run, device, CLOCKS[options.clock])
            if round_:  # the first warms up
                seconds_by_side[name].append(spent)
        rates.append(matrix_rate(device, options.precision, CLOCKS[options.clock]))
    found: dict[str, Any] = {}
    for name, values in seconds_by_side.items():
        found |= {f"{name}_s": statistics.median(values), f"{name}_min_s": min(values)}
    found |= {"matrix_tflops": max(rates)}
    if "plain" in sides:
        with FlopCounterMode(display=False) as counter:
            sides["plain"]()
        found["gflop"] = counter.get_total_flops() / 1e9
        found["ratio"] = found["plain_min_s"] / found["ours_min_s"]
        found["ratio_of_medians"] = found["plain_s"] / found["ours_s"]
        found["rate_share"] = found["gflop"] / 1e3 / found["ours_min_s"] / found["matrix_tflops"]
    return found


def seconds(run: Run, device: torch.device, clock: Callable[[], float]) -> float:
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def matrix_rate(device: torch.device, precision: str, clock: Callable[[], float]) -> float:
    """TFLOP/s of a large matrix product, the best of three."""
    n = 8192 if device.type == "cuda" else 1536
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.rand(n, n, device=device, dtype=dtype) for _ in "ab")
    return 2 * n**3 / min(seconds(lambda: a @ b, device, clock) for _ in range(3)) / 1e12


def memories(options: argparse.Namespace) -> dict[str, float]:
    """Peak memory of each side, in a process of its own, in MB."""
    found = {}
    for side in ("plain", "ours"):
        arguments = {
            name: getattr(options, name)
            for name in ("size", "width", "method", "precision", "batch", "compile")
        }
        arguments |= {"side": side, "threads": options.threads or torch.get_num_threads()}
        command = [sys.executable, __file__, *(f"--{name}={value}" for name, value in arguments.items())]
        if side == "plain" or options.malloc:
            command.append("--malloc")  # public code leaves it as it is
        if options.checkpoint:
            command.append("--checkpoint")
        found[f"{side}_mb"] = (
            float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e6
        )
    return found | {"memory_ratio": found["ours_mb"] / found["plain_mb"]}


def peak_memory(options: argparse.Namespace, device: torch.device) -> int:
    """Peak bytes of building the networks and of three steps: allocated on a GPU, additional resident memory on a CPU."""
    before = resident()
    run = {"plain": plain_side, "ours": our_side}[options.side](options, device)
    for _ in range(3):
        run()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
