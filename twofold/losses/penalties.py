"""Penalties on a discriminator's gradient with respect to its input images."""

import torch
from torch import Tensor, nn


def gradient_penalty(disc: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """WGAN-GP's: the mean of (‖∇D(x̂)‖₂ − 1)², x̂ at a random place between a real and a translated image.

    Gulrajani et al. 2017 (arXiv 1704.00028), equation 3 and Algorithm 1, without its weight. D is the mean of an
    image's logits, as in the loss. The draws come from the device's generator.

    Args:
        real, fake: (N, C, H, W), of one size.
    """
    mix = torch.rand(len(real), 1, 1, 1, device=real.device).to(real.dtype)
    between = real.detach() + mix * (fake.detach() - real.detach())
    return (image_gradients(disc, between).flatten(1).norm(dim=1) - 1).square().mean()


def r1_penalty(disc: nn.Module, real: Tensor) -> Tensor:
    """Half the mean of ‖∇D(x)‖² over real images (Mescheder et al. 2018, arXiv 1801.04406, equation 9, γ apart)."""
    return 0.5 * image_gradients(disc, real.detach()).square().flatten(1).sum(1).mean()


def full_precision(device: torch.device) -> torch.autocast:
    """No autocast inside the block. The meta device has none to turn off."""
    return torch.autocast("cpu" if device.type == "meta" else device.type, enabled=False)


def image_gradients(disc: nn.Module, images: Tensor) -> Tensor:
    """∇D at each image, (N, C, H, W), itself differentiable; in full precision, since it is squared."""
    images = images.requires_grad_()
    with full_precision(images.device):
        logits = disc(images)
        maps = logits if isinstance(logits, tuple) else (logits,)
        value = torch.stack([x.flatten(1).mean(1).sum() for x in maps]).mean()
        return torch.autograd.grad(value, images, create_graph=True)[0]
