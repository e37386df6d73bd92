"""Time a training step: as public code writes it, and as twofold runs it, side by side in one process.

    python benchmarks/train_step.py --size 128 --precision auto --json step.json
    python benchmarks/train_step.py --size 256 --memory

The plain step (benchmarks/plain.py) is float32, one image a call, uncompiled, with torch's own thread count. Both
sides train networks of the same shape on the same images. Runs alternate, so that a change in the machine's speed
meets both; the ratio of the minima is the figure to quote, for load only ever adds. Where other processes keep the
cores busy, `--threads 1 --clock cpu` counts the time that this process has worked. Needs torch, numpy, Pillow and
safetensors alone.
"""

import argparse
import json
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

from twofold import hardware
from twofold.methods.adversarial import BCE
from twofold.methods.base import Batch, Method
from twofold.methods.cut import CUT
from twofold.methods.cyclegan import CycleGAN
from twofold.methods.pix2pix import Pix2Pix
from twofold.networks.discriminators import MultiDiscriminator, PatchDiscriminator
from twofold.networks.layers import initialise
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.unet import UnetGenerator
from twofold.training import machine
from twofold.training.capture import WARM_UP
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
    parser.add_argument(
        "--preset", choices=["seasons"], help="the demo's networks: ours alone, nothing plain"
    )
    parser.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    parser.add_argument(
        "--compile", choices=["auto", "on", "off"], default="auto", help="ours, as in `train`"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="torch's own choice unless given")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--checkpoint", action="store_true", help="ours as with machine.checkpoint")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead of time")
    parser.add_argument("--side", choices=["plain", "ours"], help="run one side alone and print its memory")
    parser.add_argument("--malloc", action="store_true", help="leave the system's memory allocator as it is")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    device = hardware.pick_device()
    if given.precision == "auto":
        given.precision = "bf16" if hardware.fast_bf16(device) else "float32"
    if not given.malloc:
        hardware.keep_freed_memory()  # as `twofold train` does; plain gains by it too
    torch.backends.cudnn.benchmark = device.type == "cuda"  # as the originals do, and `train`
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.side:
        print(peak_memory(given, device))
        return
    result = vars(given) | {"json": None, "device": hardware.describe(device), "load": os.getloadavg()[0]}
    if result["load"] > 0.5:
        print(
            f"other processes are running (load {result['load']:.1f}): trust the minima, and repeat",
            file=sys.stderr,
        )
    result |= memories(given) if given.memory else times(given, device)
    for name, value in result.items():
        if isinstance(value, float):
            print(f"{name:<14} {value:.4g}")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1))


# ---- the two sides


def networks(given: argparse.Namespace) -> Method:
    """Ours, as the plain twin's."""
    width, blocks = given.width, 9 if given.size >= 256 else 6
    if given.preset:
        generators = [
            ResnetGenerator(width=24, blocks=4, halvings=1, upsample="resize", skips=True) for _ in "ab"
        ]
        critics = [
            MultiDiscriminator([[PatchDiscriminator(width=24, layers=n) for n in (3, 1)]]) for _ in "ab"
        ]
        return CycleGAN(*generators, *critics, cycle_a=2, cycle_b=2, replay=0, recent_updates=2)
    if given.method == "cyclegan":
        generators = [ResnetGenerator(width=width, blocks=blocks) for _ in "ab"]
        return CycleGAN(*generators, *[PatchDiscriminator(width=width) for _ in "ab"])
    if given.method == "pix2pix":
        critic = PatchDiscriminator(6, width, norm="batch")
        return Pix2Pix(UnetGenerator(width=width, depth=depth(given.size)), critic, adversary=BCE)
    generator = ResnetGenerator(width=width, blocks=blocks, antialias=True, upsample="blur")
    return CUT(generator, PatchDiscriminator(width=width, antialias=True))


def depth(size: int) -> int:
    return min(8, (size & -size).bit_length() - 1)


def plain_side(given: argparse.Namespace, device: torch.device) -> Run:
    width, blocks = given.width, 9 if given.size >= 256 else 6
    twin = {
        "cyclegan": lambda: plain.cyclegan(width, blocks),
        "pix2pix": lambda: plain.pix2pix(width, depth(given.size)),
        "cut": lambda: plain.cut(width, blocks),
    }[given.method]()
    for network in twin.networks.values():
        network.to(device)
        network.apply(first_weights)
    a, b = images(given, device)

    def run() -> None:
        {name: loss.item() for name, loss in twin.step(a, b).items()}

    return run


def first_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)


def our_side(given: argparse.Namespace, device: torch.device) -> Run:
    method = networks(given)
    for network in method.networks().values():
        initialise(network)
        if isinstance(network, ResnetGenerator):
            network.recompute = given.checkpoint
    compiling = given.compile == "on" or (
        given.compile == "auto" and device.type == "cuda" and machine.can_compile(device)
    )
    trainer = Trainer(
        method,
        device=device,
        precision=given.precision,
        compiled=compiling,
        captured=compiling and device.type == "cuda" and not given.checkpoint,
        channels_last=device.type == "cpu" or given.precision == "bf16",
        fused=device.type in ("cpu", "cuda"),
    )
    batch = Batch(*images(given, device))
    for _ in range(WARM_UP if compiling else 0):  # what is made once is not to be timed
        trainer.step(batch, 2e-4)
    return lambda: trainer.step(batch, 2e-4)


def images(given: argparse.Namespace, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    a, b = (torch.rand(given.batch, 3, given.size, given.size, generator=draws) * 2 - 1 for _ in "ab")
    return a.to(device), b.to(device)


# ---- what is measured


def times(given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Seconds of a step, interleaved; and what the machine could do."""
    sides = {"ours": our_side(given, device)}
    if not given.preset:
        sides = {"plain": plain_side(given, device), **sides}
    took: dict[str, list[float]] = {name: [] for name in sides}
    rates = []
    for round_ in range(given.rounds + 1):
        for name, run in sides.items():
            spent = seconds(run, device, CLOCKS[given.clock])
            if round_:  # the first warms up
                took[name].append(spent)
        rates.append(matrix_rate(device, given.precision, CLOCKS[given.clock]))
    found: dict[str, Any] = {}
    for name, values in took.items():
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
    begun = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - begun


def matrix_rate(device: torch.device, precision: str, clock: Callable[[], float]) -> float:
    """TFLOP/s of a large matrix product, the best of three."""
    n = 8192 if device.type == "cuda" else 1536
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.rand(n, n, device=device, dtype=dtype) for _ in "ab")
    return 2 * n**3 / min(seconds(lambda: a @ b, device, clock) for _ in range(3)) / 1e12


def memories(given: argparse.Namespace) -> dict[str, float]:
    """Peak memory of each side, in a process of its own, in MB."""
    found = {}
    for side in ("plain", "ours"):
        said = {
            name: getattr(given, name)
            for name in ("size", "width", "method", "precision", "batch", "compile")
        }
        said |= {"side": side, "threads": given.threads or torch.get_num_threads()}
        command = [sys.executable, __file__, *(f"--{name}={value}" for name, value in said.items())]
        if side == "plain" or given.malloc:
            command.append("--malloc")  # public code leaves it as it is
        if given.checkpoint:
            command.append("--checkpoint")
        found[f"{side}_mb"] = (
            float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e6
        )
    return found | {"memory_ratio": found["ours_mb"] / found["plain_mb"]}


def peak_memory(given: argparse.Namespace, device: torch.device) -> int:
    """Bytes that building and three steps take at most: allocated on a GPU; resident, over what was before, on a CPU."""
    before = resident()
    run = {"plain": plain_side, "ours": our_side}[given.side](given, device)
    for _ in range(3):
        run()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
