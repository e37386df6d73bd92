"""A distance of images in the features of a network (Johnson et al. 2016, arXiv 1603.08155, equation 2, in L1)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twofold.losses.penalties import full_precision


class Perceptual(nn.Module):
    """The weighted mean absolute difference of two images' feature maps; the mean over maps.

    The user's network moves with this module, stays in eval mode and is never trained.

    Args:
        network: images (N, 3, H, W) in [-1, 1] to one feature map or several; grey images are repeated.
        weight: of the distance.
    """

    def __init__(self, network: nn.Module, weight: float) -> None:
        super().__init__()
        self.network, self.weight = network, weight
        self.eval()
        for param in network.parameters():  # TorchScript has no `requires_grad_` for a whole network
            param.requires_grad_(False)

    def train(self, mode: bool = True) -> "Perceptual":  # noqa: ARG002
        return super().train(False)

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Scalar, in float32; the gradient reaches `image` alone. Both (N, C, H, W)."""
        with full_precision(image.device):
            features = maps(self.network(as_colour(image.float())))
            with torch.no_grad():
                targets = maps(self.network(as_colour(target.float())))
        distances = [F.l1_loss(x, y) for x, y in zip(features, targets, strict=True)]
        return self.weight * torch.stack(distances).mean()


def as_colour(images: Tensor) -> Tensor:
    """Three channels: grey is repeated; of more than three the first three are used."""
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)


def maps(features: Any) -> list[Tensor]:
    return [features] if isinstance(features, Tensor) else list(features)
