"""A distance of images in the features of a network (Johnson et al. 2016, arXiv 1603.08155, equation 2, in L1)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from twofold.losses.penalties import full_precision


class Perceptual:
    """The weighted mean absolute difference of two images' feature maps, the mean over maps.

    It is no module: the network that gives the features belongs to the user, is not trained and not saved.

    Args:
        network: images (N, 3, H, W) in [-1, 1] to one feature map or several; grey images are repeated.
        weight: of the distance.
    """

    def __init__(self, network: torch.nn.Module, weight: float) -> None:
        self.network, self.weight = network.eval(), weight
        for own in network.parameters():  # one by one, for TorchScript has no `requires_grad_` of the whole
            own.requires_grad_(False)

    def __call__(self, image: Tensor, target: Tensor) -> Tensor:
        """Scalar, in float32; the gradient reaches `image` alone. Both (N, C, H, W)."""
        with full_precision(image.device):
            mine = maps(self.network(as_colour(image.float())))
            with torch.no_grad():
                its = maps(self.network(as_colour(target.float())))
        return self.weight * torch.stack([F.l1_loss(x, y) for x, y in zip(mine, its, strict=True)]).mean()

    def to(self, device: torch.device) -> "Perceptual":
        self.network.to(device)
        return self


def as_colour(images: Tensor) -> Tensor:
    """Three channels: grey repeated, of more the first three."""
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)


def maps(features: Any) -> list[Tensor]:
    return [features] if isinstance(features, Tensor) else list(features)
