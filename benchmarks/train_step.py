"""Time a CycleGAN training step: as the paper writes it, and as twofold runs it, side by side in one process.

    python benchmarks/train_step.py --size 128 --precision auto --json step.json

The plain step is float32, one image a call, critics frozen by hand, default Adam and memory layout. Both sides train
the same networks on the same images; runs alternate, so that a change in the machine's speed meets both.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from twofold import hardware
from twofold.losses.adversarial import discriminator_loss, generator_loss
from twofold.methods.base import Batch
from twofold.methods.cyclegan import CycleGAN
from twofold.methods.replay import ReplayBuffer
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.layers import initialise
from twofold.networks.resnet import ResnetGenerator
from twofold.training.trainer import Trainer


def networks(width: int, blocks: int) -> list[torch.nn.Module]:
    made = [ResnetGenerator(width=width, blocks=blocks) for _ in range(2)]
    made += [PatchDiscriminator(width=width) for _ in range(2)]
    for network in made:
        initialise(network)
    return made


def plain_step(nets: list[torch.nn.Module], device: torch.device) -> Callable[[Batch], None]:
    """The step as public code writes it (CycleGAN, arXiv 1703.10593, equation 3)."""
    gen_ab, gen_ba, disc_a, disc_b = (network.to(device) for network in nets)
    critics = list(itertools.chain(disc_a.parameters(), disc_b.parameters()))
    frozen = [p for p in critics if not p.requires_grad]  # biases before a norm
    generators = itertools.chain(gen_ab.parameters(), gen_ba.parameters())
    adam_g, adam_d = (torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.999)) for p in (list(generators), critics))
    replay_a, replay_b = ReplayBuffer(50), ReplayBuffer(50)

    def step(batch: Batch) -> None:
        a, b = batch
        fake_b, fake_a = gen_ab(a), gen_ba(b)
        rec_a, rec_b = gen_ba(fake_b), gen_ab(fake_a)
        for p in critics:
            p.requires_grad_(False)
        adam_g.zero_grad()
        loss = generator_loss("lsgan", disc_b(fake_b)) + generator_loss("lsgan", disc_a(fake_a))
        loss = loss + 10 * (F.l1_loss(rec_a, a) + F.l1_loss(rec_b, b))
        loss = loss + 5 * (F.l1_loss(gen_ba(a), a) + F.l1_loss(gen_ab(b), b))
        loss.backward()
        adam_g.step()
        for p in critics:
            p.requires_grad_(all(p is not each for each in frozen))
        adam_d.zero_grad()
        for disc, real, fake, replay in ((disc_a, a, fake_a, replay_a), (disc_b, b, fake_b, replay_b)):
            discriminator_loss("lsgan", disc(real), disc(replay.exchange(fake))).backward()
        adam_d.step()

    return step


def seconds(step: Callable[[Batch], None], batch: Batch) -> float:
    begun = time.perf_counter()
    step(batch)
    if batch.a.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    device = hardware.pick_device()
    fast = given.precision == "bf16" or (given.precision == "auto" and hardware.fast_bf16(device))
    blocks = 9 if given.size >= 256 else 6
    trainer = Trainer(
        CycleGAN(*networks(given.width, blocks)),  # pyright: ignore[reportArgumentType]
        device=device,
        precision="bf16" if fast else "float32",
        channels_last=fast,
        fused=device.type in ("cpu", "cuda"),
    )
    sides = {
        "plain": plain_step(networks(given.width, blocks), device),
        "ours": lambda batch: trainer.step(batch, 2e-4),
    }
    batch = Batch(*(torch.rand(1, 3, given.size, given.size, device=device) * 2 - 1 for _ in "ab"))
    took: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(given.rounds + 1):
        for name, step in sides.items():
            spent = seconds(step, batch)
            if round_:  # the first warms up
                took[name].append(spent)
    medians = {name: statistics.median(times) for name, times in took.items()}
    result = {
        "size": given.size,
        "blocks": blocks,
        "width": given.width,
        "device": hardware.describe(device),
        "plain_s": medians["plain"],
        "ours_s": medians["ours"],
        "plain_min_s": min(took["plain"]),
        "ours_min_s": min(took["ours"]),
        "ratio": medians["plain"] / medians["ours"],
    }
    for name, times in took.items():
        print(f"{name:<6} median {medians[name]:.3f} s  minimum {min(times):.3f} s")
    print(
        f"ratio  {result['ratio']:.2f} of medians, {result['plain_min_s'] / result['ours_min_s']:.2f} of minima"
    )
    if given.json:
        given.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
