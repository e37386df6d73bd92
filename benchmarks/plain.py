"""The papers' networks and training steps as public code writes them: float32, one image a call, not compiled.

`train_step.py` and `translate.py` compare twofold with these; this file has no command and does not use the package.
`tests/benchmarks` compares these steps with the recorded results of the original implementations.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise
from random import random, randrange
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Step = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""A training step on images of A and of B, (N, 3, H, W) in [-1, 1]; returns its losses, on the device."""


class Plain(NamedTuple):
    """A method's networks by name, and its step."""

    networks: dict[str, nn.Module]
    step: Step


# ---- networks; the layers have the originals' positions, so the originals' weights fit


class Block(nn.Module):
    """Residual block: two 3×3 convolutions with instance norm, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (
            (nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels))
            for _ in "12"
        )
        self.conv_block = nn.Sequential(*first, nn.ReLU(True), *second)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class BlurDown(nn.Module):
    """Blur and halve both sides, as CUT does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", square((0.25, 0.5, 0.25), channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), self.filt, stride=2, groups=x.shape[1])


class BlurUp(nn.Module):
    """Double both sides and blur, as CUT does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", square((0.25, 0.75, 0.75, 0.25), channels))

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), "replicate")
        wide = F.conv_transpose2d(padded, self.filt, stride=2, padding=2, groups=x.shape[1])
        return wide[:, :, 1:-1, 1:-1]


def square(line: Sequence[float], channels: int) -> Tensor:
    taps = torch.tensor(line)
    return torch.outer(taps, taps).expand(channels, 1, -1, -1).contiguous()


def resnet(width: int = 64, blocks: int = 9, blur: bool = False) -> nn.Sequential:
    """The ResNet generator of CycleGAN; with `blur`, of CUT."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), nn.InstanceNorm2d(width)]
    layers += [nn.ReLU(True)]
    for channels in (width, 2 * width):
        to = 2 * channels
        layers += [nn.Conv2d(channels, to, 3, 1 if blur else 2, 1), nn.InstanceNorm2d(to), nn.ReLU(True)]
        layers += [BlurDown(to)] if blur else []
    layers += [Block(4 * width) for _ in range(blocks)]
    for channels in (4 * width, 2 * width):
        to = channels // 2
        if blur:
            layers += [BlurUp(channels), nn.Conv2d(channels, to, 3, padding=1)]
        else:
            layers += [nn.ConvTranspose2d(channels, to, 3, 2, 1, output_padding=1)]
        layers += [nn.InstanceNorm2d(to), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())


class UnetLevel(nn.Module):
    """A U-Net level: halve, run the level below, double, and join with the input; the outermost returns the image."""

    def __init__(self, channels: int, inner: int, below: nn.Module | None, outermost: bool = False) -> None:
        super().__init__()
        bottom = below is None
        down = nn.Conv2d(3 if outermost else channels, inner, 4, 2, 1, bias=False)
        up = nn.ConvTranspose2d(inner if bottom else 2 * inner, channels, 4, 2, 1, bias=outermost)
        layers = [down] if outermost else [nn.LeakyReLU(0.2, True), down]
        layers += [] if outermost or bottom else [nn.BatchNorm2d(inner)]
        layers += [below] if below else []
        layers += [nn.ReLU(True), up, nn.Tanh() if outermost else nn.BatchNorm2d(channels)]
        self.model, self.outermost = nn.Sequential(*layers), outermost

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) if self.outermost else torch.cat((x, self.model(x)), 1)


def unet(width: int = 64, depth: int = 8) -> UnetLevel:
    """The U-Net generator, without dropout."""
    levels = [width * min(2**level, 8) for level in range(depth)]
    below = None
    for channels, inner in reversed(list(pairwise(levels))):
        below = UnetLevel(channels, inner, below)
    return UnetLevel(3, width, below, outermost=True)


def patch_discriminator(
    channels: int = 3, width: int = 64, blur: bool = False, batch_norm: bool = False
) -> nn.Sequential:
    """The 70×70 PatchGAN discriminator of CycleGAN; with `blur`, of CUT; with `batch_norm`, of pix2pix."""
    stride = 1 if blur else 2
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride, 1), nn.LeakyReLU(0.2, True)]
    layers += [BlurDown(width)] if blur else []
    for into, to, last in (
        (width, 2 * width, False),
        (2 * width, 4 * width, False),
        (4 * width, 8 * width, True),
    ):
        norm = nn.BatchNorm2d(to) if batch_norm else nn.InstanceNorm2d(to)
        conv = nn.Conv2d(into, to, 4, 1 if last else stride, 1, bias=not batch_norm)
        layers += [conv, norm, nn.LeakyReLU(0.2, True)]
        layers += [BlurDown(to)] if blur and not last else []
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))


# ---- shared by the steps


class Pool:
    """Replay buffer of 50 translations: returns a new image, or with probability 1/2 an older one in its place."""

    def __init__(self) -> None:
        self.images: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        return torch.cat([self.one(image[None]) for image in images.detach()])

    def one(self, image: Tensor) -> Tensor:
        if len(self.images) < 50:
            self.images.append(image)
            return image
        if random() < 0.5:
            return image
        place = randrange(50)
        past, self.images[place] = self.images[place], image.clone()
        return past


def freeze(networks: Iterable[nn.Module], frozen: bool) -> None:
    for param in chain(*(network.parameters() for network in networks)):
        param.requires_grad_(not frozen)


def adam(*networks: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(chain(*(network.parameters() for network in networks)), 2e-4, (0.5, 0.999))


def lsgan(logits: Tensor, value: float) -> Tensor:
    return F.mse_loss(logits, torch.full_like(logits, value))


def bce(logits: Tensor, value: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, value))


# ---- the methods


def cyclegan(width: int = 64, blocks: int = 9) -> Plain:
    """Zhu et al. 2017 (arXiv 1703.10593), equation 3 with the identity loss of §5.2."""
    gen_ab, gen_ba = resnet(width, blocks), resnet(width, blocks)
    disc_a, disc_b = patch_discriminator(width=width), patch_discriminator(width=width)
    adam_g, adam_d = adam(gen_ab, gen_ba), adam(disc_a, disc_b)
    pool_a, pool_b = Pool(), Pool()

    def step(a: Tensor, b: Tensor) -> dict[str, Tensor]:
        fake_b = gen_ab(a)
        back_a = gen_ba(fake_b)
        fake_a = gen_ba(b)
        back_b = gen_ab(fake_a)
        freeze((disc_a, disc_b), True)
        adam_g.zero_grad()
        losses = {
            "idt_b": 5 * F.l1_loss(gen_ab(b), b),
            "idt_a": 5 * F.l1_loss(gen_ba(a), a),
            "gan_ab": lsgan(disc_b(fake_b), 1),
            "gan_ba": lsgan(disc_a(fake_a), 1),
            "cycle_a": 10 * F.l1_loss(back_a, a),
            "cycle_b": 10 * F.l1_loss(back_b, b),
        }
        torch.stack(list(losses.values())).sum().backward()
        adam_g.step()
        freeze((disc_a, disc_b), False)
        adam_d.zero_grad()
        for name, disc, real, fake in (
            ("disc_a", disc_a, a, pool_a(fake_a)),
            ("disc_b", disc_b, b, pool_b(fake_b)),
        ):
            losses[name] = 0.5 * (lsgan(disc(real), 1) + lsgan(disc(fake), 0))
            losses[name].backward()
        adam_d.step()
        return losses

    return Plain({"gen_ab": gen_ab, "gen_ba": gen_ba, "disc_a": disc_a, "disc_b": disc_b}, step)


def pix2pix(width: int = 64, depth: int = 8, disc_width: int | None = None) -> Plain:
    """Isola et al. 2017 (arXiv 1611.07004), equation 4, without dropout."""
    gen_ab, disc_b = unet(width, depth), patch_discriminator(6, disc_width or width, batch_norm=True)
    adam_g, adam_d = adam(gen_ab), adam(disc_b)

    def step(a: Tensor, b: Tensor) -> dict[str, Tensor]:
        fake_b = gen_ab(a)
        adam_d.zero_grad()
        fake = bce(disc_b(torch.cat((a, fake_b.detach()), 1)), 0)
        real = bce(disc_b(torch.cat((a, b), 1)), 1)
        losses = {"disc_b": 0.5 * (fake + real)}
        losses["disc_b"].backward()
        adam_d.step()
        freeze([disc_b], True)
        adam_g.zero_grad()
        losses["gan_ab"] = bce(disc_b(torch.cat((a, fake_b), 1)), 1)
        losses["l1"] = 100 * F.l1_loss(fake_b, b)
        (losses["gan_ab"] + losses["l1"]).backward()
        adam_g.step()
        freeze([disc_b], False)
        return losses

    return Plain({"gen_ab": gen_ab, "disc_b": disc_b}, step)


CUT_LAYERS = (0, 4, 8, 12, 16)


def cut(
    width: int = 64, blocks: int = 9, head_width: int = 256, draw: Callable[[int], Tensor] | None = None
) -> Plain:
    """Park et al. 2020 (arXiv 2007.15651), equation 5; `draw` chooses positions among that many of a feature map."""
    gen_ab, disc_b = resnet(width, blocks, blur=True), patch_discriminator(width=width, blur=True)
    channels = (3, 2 * width, 4 * width, 4 * width, 4 * width)
    heads = nn.ModuleList(
        nn.Sequential(nn.Linear(each, head_width), nn.ReLU(), nn.Linear(head_width, head_width))
        for each in channels
    )
    adam_g, adam_f, adam_d = adam(gen_ab), adam(heads), adam(disc_b)
    draw = draw or (lambda count: torch.randperm(count)[:256])

    def features(images: Tensor) -> list[Tensor]:
        found = []
        for place, layer in enumerate(gen_ab[: CUT_LAYERS[-1] + 1]):
            images = layer(images)
            if place in CUT_LAYERS:
                found.append(images)
        return found

    def contrast(source: Tensor, result: Tensor) -> Tensor:
        queries, keys = features(result), features(source)
        total = source.new_zeros(())
        for head, query, key in zip(heads, queries, keys, strict=True):
            places = draw(query.shape[2] * query.shape[3]).to(query.device)
            q, k = (
                unit(head(x.permute(0, 2, 3, 1).flatten(1, 2)[:, places].flatten(0, 1))) for x in (query, key)
            )
            q, k = q.view(len(query), -1, head_width), k.detach().view(len(query), -1, head_width)
            similar = (q @ k.transpose(1, 2) / 0.07).flatten(0, 1)
            own = torch.arange(len(places), device=similar.device).repeat(len(query))
            total = total + F.cross_entropy(similar, own) / len(CUT_LAYERS)
        return total

    def step(a: Tensor, b: Tensor) -> dict[str, Tensor]:
        fake_b, same_b = gen_ab(torch.cat((a, b))).chunk(2)
        adam_d.zero_grad()
        losses = {"disc_b": 0.5 * (lsgan(disc_b(fake_b.detach()), 0) + lsgan(disc_b(b), 1))}
        losses["disc_b"].backward()
        adam_d.step()
        freeze([disc_b], True)
        adam_g.zero_grad()
        adam_f.zero_grad()
        losses["gan_ab"] = lsgan(disc_b(fake_b), 1)
        losses["nce_a"], losses["nce_b"] = contrast(a, fake_b) / 2, contrast(b, same_b) / 2
        (losses["gan_ab"] + losses["nce_a"] + losses["nce_b"]).backward()
        adam_g.step()
        adam_f.step()
        freeze([disc_b], False)
        return losses

    return Plain({"gen_ab": gen_ab, "disc_b": disc_b, "heads": heads}, step)


def unit(vectors: Tensor) -> Tensor:
    return vectors / (vectors.norm(dim=1, keepdim=True) + 1e-7)
