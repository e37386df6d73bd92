"""Prints what a real training step is estimated to take and what it took, in bytes; a program.

It has a process of its own, since the system tells no more than the most that a process ever held.
"""

import json
import sys
from pathlib import Path

import torch

from twofold.methods.base import Batch
from twofold.methods.cyclegan import CycleGAN
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.resnet import ResnetGenerator
from twofold.training import memory
from twofold.training.trainer import Trainer

SIZE, WIDTH = 128, 12


def method(width: int) -> CycleGAN:
    generators = [ResnetGenerator(3, 3, width=width, blocks=6) for _ in range(2)]
    return CycleGAN(*generators, *[PatchDiscriminator(3, width=width) for _ in range(2)], replay=0)


def held() -> int:
    """The most this program has held; not `ru_maxrss`, which a program inherits from the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main(precision: str) -> None:
    torch.set_num_threads(1)
    warm = Trainer(
        method(2), precision=precision
    )  # so that what torch loads at its first step is not counted
    warm.step(Batch(*(torch.zeros(1, 3, 32, 32) for _ in "ab")), 1e-4)
    with torch.device("meta"):
        batch = Batch(*(torch.empty(1, 3, SIZE, SIZE) for _ in "ab"))
        need = memory.estimate(method(WIDTH), batch, precision=precision)
    before = held()
    trainer = Trainer(method(WIDTH), precision=precision)
    trainer.step(Batch(*(torch.rand(1, 3, SIZE, SIZE) for _ in "ab")), 1e-4)
    sys.stdout.write(json.dumps([need.total, held() - before]))


if __name__ == "__main__":
    main(sys.argv[1])
