"""The preset `pytorch-gan` against that implementation's loop, written out plainly, in float64.

Its facts (eriklindernoren/PyTorch-GAN, implementations/cyclegan): the generator mirrors as many pixels as the image
has channels, halves twice, has nine blocks, doubles by repeating pixels before 3×3 convolutions with zeros around;
the discriminator halves four times, norms all but the first, and pads left and top before its last 4×4 convolution. One Adam
for both generators and one for each discriminator; the generators' losses are means over both directions, times 1, 10 and 5.
"""

import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twofold import config as configs
from twofold.methods.base import Batch
from twofold.presets import layer
from twofold.randomness import seed32
from twofold.training.build import build
from twofold.training.schedule import schedule
from twofold.training.trainer import Trainer

WIDTH, SIZE, STEPS = 2, 32, 4
TINY = {
    "data": {"size": SIZE, "channels_a": 3, "channels_b": 3},
    "generator": {"width": WIDTH},
    "discriminator": {"width": WIDTH},
}


class TheirBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            *(
                nn.ReflectionPad2d(1),
                nn.Conv2d(channels, channels, 3),
                nn.InstanceNorm2d(channels),
                nn.ReLU(),
            ),
            *(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


def their_generator(channels: int, width: int, blocks: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.ReflectionPad2d(channels), nn.Conv2d(channels, width, 7)]
    layers += [nn.InstanceNorm2d(width), nn.ReLU()]
    for _ in range(2):
        layers += [
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.InstanceNorm2d(2 * width),
            nn.ReLU(),
        ]
        width *= 2
    layers += [TheirBlock(width) for _ in range(blocks)]
    for _ in range(2):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width // 2, 3, padding=1)]
        layers += [nn.InstanceNorm2d(width // 2), nn.ReLU()]
        width //= 2
    return nn.Sequential(*layers, nn.ReflectionPad2d(channels), nn.Conv2d(width, channels, 7), nn.Tanh())


def their_discriminator(channels: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    for _ in range(3):
        layers += [nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.InstanceNorm2d(2 * width)]
        layers.append(nn.LeakyReLU(0.2))
        width *= 2
    return nn.Sequential(*layers, nn.ZeroPad2d((1, 0, 1, 0)), nn.Conv2d(width, 1, 4, padding=1))


class TheirBuffer:
    """Their rule; the draws come from where our trainer seeds them, so that both can be compared."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.data: list[Tensor] = []

    def push_and_pop(self, images: Tensor) -> Tensor:
        uniform, place = torch.rand(len(images)).tolist(), torch.randint(self.size, (len(images),)).tolist()
        given = []
        for number, image in enumerate(images.detach().split(1)):
            if len(self.data) < self.size:
                self.data.append(image)
                given.append(image)
            elif uniform[number] > 0.5:
                given.append(self.data[place[number]].clone())
                self.data[place[number]] = image
            else:
                given.append(image)
        return torch.cat(given)


class Theirs:
    """Their loop."""

    def __init__(self, ours: nn.Module, blocks: int, buffer: int) -> None:
        self.g_ab, self.g_ba = (their_generator(3, WIDTH, blocks).double() for _ in "ab")
        self.d_a, self.d_b = (their_discriminator(3, WIDTH).double() for _ in "ab")
        for name, network in self.networks().items():
            mine = ours.get_submodule(name).state_dict()
            network.load_state_dict(dict(zip(network.state_dict(), mine.values(), strict=True)))
        adam: dict[str, Any] = {"lr": 0.0002, "betas": (0.5, 0.999)}
        self.optimizer_g = torch.optim.Adam([*self.g_ab.parameters(), *self.g_ba.parameters()], **adam)
        self.optimizer_d_a = torch.optim.Adam(self.d_a.parameters(), **adam)
        self.optimizer_d_b = torch.optim.Adam(self.d_b.parameters(), **adam)
        self.fake_a_buffer, self.fake_b_buffer = TheirBuffer(buffer), TheirBuffer(buffer)

    def networks(self) -> dict[str, nn.Sequential]:
        return {"gen_ab": self.g_ab, "gen_ba": self.g_ba, "disc_a": self.d_a, "disc_b": self.d_b}

    def step(self, real_a: Tensor, real_b: Tensor) -> dict[str, float]:
        valid = torch.ones(len(real_a), 1, SIZE // 16, SIZE // 16, dtype=torch.float64)
        fake = torch.zeros_like(valid)

        self.optimizer_g.zero_grad()
        loss_identity = (F.l1_loss(self.g_ba(real_a), real_a) + F.l1_loss(self.g_ab(real_b), real_b)) / 2
        fake_b, fake_a = self.g_ab(real_a), self.g_ba(real_b)
        loss_gan = (F.mse_loss(self.d_b(fake_b), valid) + F.mse_loss(self.d_a(fake_a), valid)) / 2
        loss_cycle = (F.l1_loss(self.g_ba(fake_b), real_a) + F.l1_loss(self.g_ab(fake_a), real_b)) / 2
        (loss_gan + 10.0 * loss_cycle + 5.0 * loss_identity).backward()
        self.optimizer_g.step()

        said = {"gan": loss_gan, "cycle": 10 * loss_cycle, "idt": 5 * loss_identity}
        for name, discriminator, real, past, optimizer in (
            ("disc_a", self.d_a, real_a, self.fake_a_buffer.push_and_pop(fake_a), self.optimizer_d_a),
            ("disc_b", self.d_b, real_b, self.fake_b_buffer.push_and_pop(fake_b), self.optimizer_d_b),
        ):
            optimizer.zero_grad()
            loss = (
                F.mse_loss(discriminator(real), valid) + F.mse_loss(discriminator(past.detach()), fake)
            ) / 2
            loss.backward()
            optimizer.step()
            said[name] = loss
        return {name: loss.item() for name, loss in said.items()}


def of_preset(**cyclegan: Any) -> configs.Config:
    return configs.compose({"a": "A", "b": "B"}, layer("pytorch-gan"), TINY, {"cyclegan": cyclegan})


@pytest.mark.parametrize("replay", [50, 2], ids=["the preset's buffer", "a buffer that overflows"])
def test_four_steps(replay: int) -> None:
    config = of_preset(replay=replay) if replay != 50 else of_preset()
    assert config.cyclegan.replay == replay
    trainer = Trainer(
        build(config).double(),
        **config.optim.model_dump(),
        seed=config.seed,
    )
    theirs = Theirs(trainer.method, blocks=9, buffer=replay)
    draws = torch.Generator().manual_seed(random.Random(3).randrange(2**31))
    for step in range(STEPS):
        a, b = (torch.rand(1, 3, SIZE, SIZE, generator=draws, dtype=torch.float64) * 2 - 1 for _ in "ab")
        trainer.step(Batch(a, b, step), config.optim.lr)
        torch.manual_seed(seed32("step", config.seed, 0, step))
        expected = theirs.step(a, b)
        found = trainer.sums.report()
        both = {name: found[f"{name}_ab"] + found[f"{name}_ba"] for name in ("gan",)}
        both |= {name: found[f"{name}_a"] + found[f"{name}_b"] for name in ("cycle", "idt")}
        both |= {name: found[name] for name in ("disc_a", "disc_b")}
        assert both == pytest.approx(expected, rel=1e-6), step
    for name, network in theirs.networks().items():
        ours = trainer.method.get_submodule(name)
        for (key, mine), value in zip(ours.named_parameters(), network.parameters(), strict=True):
            if mine.requires_grad:  # a bias before a norm has no gradient but rounding
                torch.testing.assert_close(
                    mine.detach(), value.detach(), rtol=1e-9, atol=1e-12, msg=f"{name} {key}"
                )


def test_the_learning_rate_at_the_start_of_each_epoch() -> None:
    config = of_preset()
    plan = schedule(config.optim.lr, config.training, 1000)
    for epoch in range(200):
        theirs = 0.0002 * (1.0 - max(0, epoch - 100) / (200 - 100))
        assert plan.rate(1000 * epoch) == pytest.approx(theirs, rel=1e-12)
    assert plan.total == 200_000


def test_the_rest_of_the_recipe() -> None:
    config = configs.compose({"a": "A", "b": "B"}, layer("pytorch-gan"))
    assert (config.data.size, config.data.loaded) == (256, int(256 * 1.12))
    assert config.cyclegan.replay == 50 and config.training.batch == 1 and config.data.flip
    assert (config.generator.width, config.discriminator.width) == (64, 64)
