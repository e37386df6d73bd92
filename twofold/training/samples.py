"""Sample grids: fixed images, their translation, and back again."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from twofold.images import to_uint8


@torch.inference_mode()
def grid(sources: Tensor, there: nn.Module, back: nn.Module) -> Image.Image:
    """Rows of (source, translation, back again), one for each of `sources` (N, C, H, W) in [-1, 1]."""
    modes = [(network, network.training) for network in (there, back)]
    there.eval()
    back.eval()
    rows = []
    for source in sources.split(1):
        translated = there(source)
        rows.append(torch.cat([as_rgb(x) for x in (source, translated, back(translated))], 3))
    for network, mode in modes:
        network.train(mode)
    picture = to_uint8(torch.cat(rows, 2))[0]  # (3, N·H, 3·W)
    return Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy()))


def as_rgb(image: Tensor) -> Tensor:
    """(1, C, H, W) as three channels to look at: one is repeated, of four and more the first three are shown."""
    channels = image.shape[1]
    return image[:, :3] if channels >= 3 else image[:, [0, channels - 1, 0]]


def write(picture: Image.Image, path: Path) -> None:
    """Write a grid aside, then give it its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    picture.save(aside, "WEBP", quality=90)
    aside.replace(path)
