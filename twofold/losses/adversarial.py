"""Adversarial losses: what the critic and the generator each minimise, from the critic's logits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AdversarialName = Literal["lsgan", "bce", "hinge", "wgan"]
Logits = Tensor | tuple[Tensor, ...]
"""What a critic says: one map of logits, or one for each of several critics."""


def generator_loss(name: AdversarialName, logits: Logits) -> Tensor:
    """Scalar, small where the critic takes translated images for real ones; the mean over several critics."""
    return mean_over_critics(
        logits, lambda x: -x.mean() if name in ("hinge", "wgan") else target(name, x, 1.0)
    )


def discriminator_loss(name: AdversarialName, real_logits: Logits, fake_logits: Logits) -> Tensor:
    """Scalar, small where the critic tells real from translated; the mean over several critics.

    "lsgan", "bce": half the sum of its two errors; the half slows the critic down against the generator
    (arXiv 1611.07004, §3.3). "hinge": max(0, 1 − x) for real and max(0, 1 + x) for translated (Lim & Ye 2017,
    equation 7). "wgan": translated minus real (Gulrajani et al. 2017, equation 3, to be used with its penalty).
    """
    match name:
        case "lsgan" | "bce":
            real = mean_over_critics(real_logits, lambda x: target(name, x, 1.0))
            fake = mean_over_critics(fake_logits, lambda x: target(name, x, 0.0))
            return 0.5 * (real + fake)
        case "hinge":
            real = mean_over_critics(real_logits, lambda x: F.relu(1 - x).mean())
            return real + mean_over_critics(fake_logits, lambda x: F.relu(1 + x).mean())
        case "wgan":
            return mean_over_critics(fake_logits, torch.mean) - mean_over_critics(real_logits, torch.mean)


def mean_over_critics(logits: Logits, error: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean of each critic's error, in float32 at least: every critic counts alike, however large its map."""
    maps = logits if isinstance(logits, tuple) else (logits,)
    return torch.stack([error(x.to(torch.promote_types(x.dtype, torch.float32))) for x in maps]).mean()


def target(name: Literal["lsgan", "bce"], logits: Tensor, value: float) -> Tensor:
    """Mean error of logits that should say `value`, 1 real or 0 fake.

    "lsgan": (x − t)² (Mao et al. 2017, equation 9 with b = c = 1, a = 0). "bce": −log σ(x) for real and
    −log(1 − σ(x)) for fake (Goodfellow et al. 2014, the non-saturating form).
    """
    if name == "lsgan":
        return (logits - value).square().mean()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, value))


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Weights that take no gradient inside the block, and the same ones as before after it.

    The gradient still reaches what goes into the network.
    """
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        for weight in trained:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)
