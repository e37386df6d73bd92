"""Trains tiny networks in float64: two forked ranks with a share of the images each, and one process with all; a program.

Prints for each method the largest difference of any weight or loss between them, and how far the weights have come.
"""

import json
import os
import socket
import sys
from pathlib import Path

import torch
import torch._dynamo  # torch's optimizers import it at their first step: once, before the forks
from safetensors.torch import load_file, save_file

from twofold import distributed
from twofold.methods.base import Batch, Method
from twofold.methods.cut import CUT
from twofold.methods.cyclegan import CycleGAN
from twofold.methods.pix2pix import Pix2Pix
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.unet import UnetGenerator
from twofold.training.trainer import Trainer

STEPS = 6
CPU = torch.device("cpu")


class GivenPlaces(CUT):
    """CUT that compares the same places in every process and step."""

    def draw_places(self, count: int, device: torch.device) -> torch.Tensor:
        return torch.arange(0, count, 7, device=device)


def cyclegan() -> Method:
    generators = [ResnetGenerator(3, 3, width=4, blocks=1) for _ in range(2)]
    discriminators = [PatchDiscriminator(3, width=4, layers=1) for _ in range(2)]
    return CycleGAN(*generators, *discriminators, replay=0)


def pix2pix() -> Method:
    generator = UnetGenerator(3, 3, width=2, depth=3, norm="instance", dropout=False)
    return Pix2Pix(generator, PatchDiscriminator(6, width=4, layers=1))


def cut() -> Method:
    generator = ResnetGenerator(3, 3, width=4, blocks=1)
    return GivenPlaces(generator, PatchDiscriminator(3, width=4, layers=1), layers=(0, 4, 8), head_width=8)


METHODS = {"cyclegan": cyclegan, "pix2pix": pix2pix, "cut": cut, "accumulated": cyclegan}
"""In "accumulated" each rank makes a step of two batches of one image, and the process alone one of a batch of four."""


def method(name: str) -> Method:
    torch.manual_seed(0)
    return METHODS[name]().double()


def train(name: str, share: slice, file: Path) -> None:
    count = 4 if name == "accumulated" else 2
    alone = distributed.world() == 1
    trainer = Trainer(
        method(name), lr=1e-3, ema=5, fused=True, channels_last=True, accumulate=1 if alone else count // 2
    )
    for step in range(STEPS):
        draws = torch.Generator().manual_seed(step)
        a, b = (torch.rand(count, 3, 16, 16, generator=draws, dtype=torch.float64) * 2 - 1 for _ in "ab")
        for part in [slice(count)] if alone else [slice(first, first + 2) for first in range(0, count, 2)]:
            trainer.step(Batch(a[part][share], b[part][share]), 1e-3)
    assert trainer.images == count * STEPS
    losses = {f"loss/{name}": torch.tensor(mean) for name, mean in trainer.sums.report().items()}
    shipped = {f"average/{name}": tensor for name, tensor in trainer.generator("ab").state_dict().items()}
    save_file(
        {name: t.contiguous() for name, t in (trainer.method.state_dict() | losses | shipped).items()}, file
    )


def rank(number: int, port: int, folder: Path) -> None:
    code = 1
    try:
        world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ.update({"RANK": str(number), "LOCAL_RANK": str(number), **world})
        with distributed.joined(CPU):
            assert distributed.world() == 2
            assert distributed.any_rank(number == 1) and not distributed.any_rank(False)
            for name in METHODS:
                train(name, slice(number, number + 1), folder / f"{name}-rank{number}")
        assert distributed.world() == 1
        code = 0
    finally:
        os._exit(code)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    children = []
    for number in range(2):
        child = os.fork()
        if child == 0:
            rank(number, port, folder)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0, 0], codes
    sys.stdout.write(json.dumps({name: differences(name, folder) for name in METHODS}))


def differences(name: str, folder: Path) -> dict[str, float]:
    train(name, slice(None), folder / f"{name}-alone")
    alone, first, second = (load_file(folder / f"{name}-{by}") for by in ("alone", "rank0", "rank1"))
    start = method(name).state_dict()
    return {
        "between ranks": max(float((first[key] - second[key]).abs().max()) for key in first),
        "to one process": max(float((first[key] - alone[key]).abs().max()) for key in alone),
        "moved": max(float((alone[key] - start[key]).abs().max()) for key in start),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
