"""Adversarial losses: what the critic and the generator each minimise, from the critic's logits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AdversarialName = Literal["lsgan", "bce"]


def generator_loss(name: AdversarialName, logits: Tensor) -> Tensor:
    """Scalar, small where the critic takes translated images, `logits` of any shape, for real ones."""
    return target_loss(name, logits, 1.0)


def discriminator_loss(name: AdversarialName, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Scalar, small where the critic tells real from translated: half the sum of its two errors.

    The half slows the critic down against the generator (arXiv 1611.07004, §3.3).
    """
    return 0.5 * (target_loss(name, real_logits, 1.0) + target_loss(name, fake_logits, 0.0))


def target_loss(name: AdversarialName, logits: Tensor, target: float) -> Tensor:
    """Mean error of logits that should say `target`, 1 real or 0 fake; in float32 at least.

    "lsgan": (x − t)² (Mao et al. 2017, equation 9 with b = c = 1, a = 0). "bce": −log σ(x) for real and
    −log(1 − σ(x)) for fake (Goodfellow et al. 2014, the non-saturating form).
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    match name:
        case "lsgan":
            return (logits - target).square().mean()
        case "bce":
            return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def deceive(disc: nn.Module, fake: Tensor, name: AdversarialName) -> Tensor:
    """The generator's adversarial term for its translations `fake`, (N, C, H, W).

    The gradient reaches `fake` and no weight of the critic, which is as it was after the call.
    """
    with frozen(disc):
        return generator_loss(name, disc(fake))


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Weights that take no gradient inside the block, and the same ones as before after it."""
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        for weight in trained:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)
