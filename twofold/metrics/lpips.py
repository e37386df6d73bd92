"""LPIPS (Zhang et al. 2018, arXiv 1801.03924): a learned distance of two images.

The backbones are AlexNet and VGG-16, with the layer numbers of their published weights. The learned heads come with
torchmetrics, whose own LPIPS needs torchvision.
"""

from importlib.resources import files
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from twofold.errors import UsageError

MEAN, DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of images in [-1, 1], by channel; the backbones take zero mean and unit deviation."""

Layers = list[nn.Module]


class Lpips(nn.Module):
    """The distance (N,) of images (N, 3, H, W) in [-1, 1]; 0 for equal ones.

    Args:
        slices: the backbone in parts; the features at the end of each part are compared.
        heads: for each part, the channels' weights (1, C, 1, 1).
    """

    def __init__(self, slices: list[nn.Sequential], heads: list[Tensor]) -> None:
        super().__init__()
        self.slices, self.heads = nn.ModuleList(slices), heads

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = normalised(x), normalised(y)
        total = torch.zeros(len(x), device=x.device)
        for part, head in zip(self.slices, self.heads, strict=True):
            x, y = part(x), part(y)
            total = total + (head.to(x) * (unit(x) - unit(y)).square()).sum(1).mean((1, 2))
        return total


def normalised(images: Tensor) -> Tensor:
    mean, deviation = (images.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return (images - mean) / deviation


def unit(maps: Tensor) -> Tensor:
    """Each pixel's channels scaled to length 1."""
    return maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-8)


def load(path: Path) -> Lpips:
    """LPIPS on the backbone whose weights a file holds; the file's keys tell which backbone it is.

    Raises:
        UsageError: there is no such file, or it holds neither backbone.
    """
    if not path.is_file():
        raise UsageError(
            f"there is no file {path}; LPIPS needs the published ImageNet weights of AlexNet"
            " (alexnet-owt-7be5be79.pth) or VGG-16 (vgg16-397923af.pth)"
        )
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        weights = {name: w for name, w in weights.items() if name.startswith("features.")}
        name, parts = ("vgg", vgg()) if "features.28.weight" in weights else ("alex", alexnet())
        backbone = nn.ModuleDict({"features": nn.Sequential(*chain.from_iterable(parts))})
        backbone.load_state_dict(weights)
    except Exception as error:  # torch raises nearly anything on a foreign file
        raise UsageError(
            f"{path} does not hold the published ImageNet weights of AlexNet or VGG-16"
        ) from error
    return Lpips([nn.Sequential(*part) for part in parts], heads(name)).requires_grad_(False).eval()


def alexnet() -> list[Layers]:
    parts: list[Layers] = [[nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU()]]
    parts += [[nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()]]
    return [*parts, [nn.MaxPool2d(3, 2), *conv(192, 384)], conv(384, 256), conv(256, 256)]


def vgg() -> list[Layers]:
    parts: list[Layers] = [[*conv(3, 64), *conv(64, 64)]]
    for into, out, count in ((64, 128, 1), (128, 256, 2), (256, 512, 2), (512, 512, 2)):
        more = [layer for _ in range(count) for layer in conv(out, out)]
        parts.append([nn.MaxPool2d(2), *conv(into, out), *more])
    return parts


def conv(into: int, out: int) -> Layers:
    return [nn.Conv2d(into, out, 3, padding=1), nn.ReLU()]


def heads(name: str) -> list[Tensor]:
    """The learned weights (1, C, 1, 1) of the five parts of "alex" or "vgg"."""
    folder = files("torchmetrics") / "functional" / "image" / "lpips_models"
    weights = torch.load(str(folder / f"{name}.pth"), map_location="cpu", weights_only=True)
    return [weights[f"lin{place}.model.1.weight"] for place in range(5)]
