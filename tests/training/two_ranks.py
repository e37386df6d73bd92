"""Trains a tiny CycleGAN in float64: two forked ranks with one image each, and one process with both; a program.

Prints the largest difference of any weight or loss between them, and how far the weights have come.
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
from twofold.methods.base import Batch
from twofold.methods.cyclegan import CycleGAN
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.resnet import ResnetGenerator
from twofold.training.trainer import Trainer

STEPS = 6
CPU = torch.device("cpu")


def method() -> CycleGAN:
    torch.manual_seed(0)
    generators = [ResnetGenerator(3, 3, width=4, blocks=1) for _ in range(2)]
    critics = [PatchDiscriminator(3, width=4, layers=1) for _ in range(2)]
    return CycleGAN(*generators, *critics, replay=0).double()


def train(share: slice, file: Path) -> None:
    trainer = Trainer(method(), lr=1e-3, ema=5, fused=True, channels_last=True)
    for step in range(STEPS):
        draws = torch.Generator().manual_seed(step)
        both = (torch.rand(2, 3, 16, 16, generator=draws, dtype=torch.float64) * 2 - 1 for _ in "ab")
        trainer.step(Batch(*(images[share] for images in both)), 1e-3)
    assert trainer.images == 2 * STEPS
    losses = {f"loss/{name}": torch.tensor(mean) for name, mean in trainer.sums.report().items()}
    shipped = {f"average/{name}": tensor for name, tensor in trainer.generator("ab").state_dict().items()}
    save_file(
        {name: t.contiguous() for name, t in (trainer.method.state_dict() | losses | shipped).items()}, file
    )


def rank(number: int, port: int, file: Path) -> None:
    code = 1
    try:
        world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ.update({"RANK": str(number), "LOCAL_RANK": str(number), **world})
        assert distributed.start(CPU) and distributed.world() == 2
        assert distributed.any_rank(number == 1, CPU) and not distributed.any_rank(False, CPU)
        train(slice(number, number + 1), file)
        distributed.stop()
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
            rank(number, port, folder / f"rank{number}")
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0, 0], codes
    train(slice(0, 2), folder / "alone")
    alone, first, second = (load_file(folder / name) for name in ("alone", "rank0", "rank1"))
    start = method().state_dict()
    figures = {
        "between ranks": max(float((first[name] - second[name]).abs().max()) for name in first),
        "to one process": max(float((first[name] - alone[name]).abs().max()) for name in alone),
        "moved": max(float((alone[name] - start[name]).abs().max()) for name in start),
    }
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
