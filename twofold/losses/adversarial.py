"""Adversarial losses of generators and discriminators, from the discriminator's logits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AdversarialName = Literal["lsgan", "bce", "hinge", "wgan"]
Logits = Tensor | tuple[Tensor, ...]
"""A discriminator's output: one map of logits, or one for each of several discriminators."""


def generator_loss(name: AdversarialName, logits: Logits) -> Tensor:
    """Scalar, small where the discriminator takes translated images for real ones; the mean over discriminators."""
    return mean_over_maps(
        logits, lambda x: -x.mean() if name in ("hinge", "wgan") else error_from(name, x, 1.0)
    )


def discriminator_loss(name: AdversarialName, real_logits: Logits, fake_logits: Logits) -> Tensor:
    """Scalar, small where the discriminator tells real images from translated ones; the mean over discriminators.

    "lsgan", "bce": half the sum of both errors; the half slows the discriminator relative to the generator
    (arXiv 1611.07004, §3.3). "hinge": max(0, 1 − x) for real and max(0, 1 + x) for translated images (Lim & Ye
    2017, equation 7). "wgan": translated minus real (Gulrajani et al. 2017, equation 3, used with its penalty).
    """
    match name:
        case "lsgan" | "bce":
            real = mean_over_maps(real_logits, lambda x: error_from(name, x, 1.0))
            fake = mean_over_maps(fake_logits, lambda x: error_from(name, x, 0.0))
            return 0.5 * (real + fake)
        case "hinge":
            real = mean_over_maps(real_logits, lambda x: F.relu(1 - x).mean())
            return real + mean_over_maps(fake_logits, lambda x: F.relu(1 + x).mean())
        case "wgan":
            return mean_over_maps(fake_logits, torch.mean) - mean_over_maps(real_logits, torch.mean)


def mean_over_maps(logits: Logits, error: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean of each map's error, in float32 at least: every map has the same weight, however large it is."""
    maps = logits if isinstance(logits, tuple) else (logits,)
    return torch.stack([error(x.to(torch.promote_types(x.dtype, torch.float32))) for x in maps]).mean()


def error_from(name: Literal["lsgan", "bce"], logits: Tensor, target: float) -> Tensor:
    """Mean error of logits from `target`, 1 for real or 0 for translated.

    "lsgan": (x − t)² (Mao et al. 2017, equation 9 with b = c = 1, a = 0). "bce": −log σ(x) for real and
    −log(1 − σ(x)) for translated (Goodfellow et al. 2014, the non-saturating form).
    """
    if name == "lsgan":
        return (logits - target).square().mean()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Weights that take no gradient inside the block; the gradient still reaches the network's input."""
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        for weight in trained:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)
