"""Sample grids: fixed images, their translation, and what shows whether it is right."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from twofold.formats.images import to_float, to_uint8
from twofold.formats.lab import from_lab
from twofold.translation.noise import at_test_time

Third = nn.Module | Sequence[Tensor] | None
"""What stands in the third column: the network back, the right answers, or nothing better than the change."""


@torch.inference_mode()
def grid(
    sources: Tensor, there: nn.Module, third: Third, *, noise: bool = False, lab: bool = False
) -> Image.Image:
    """Rows of (source, translation, third column), one for each of `sources` (N, C, H, W) in [-1, 1].

    The third column is the translation translated back, where `third` is a network; the right answer, where it
    is a list of images; else by how much the translation differs, grey where it does not. With `lab`, colours
    are shown under the lightness that stands in their row.
    """
    rows = []
    for place, source in enumerate(sources.split(1)):
        translated = through(there, source, noise)
        row = [source, translated]
        if isinstance(third, nn.Module):
            row.append(through(third, translated, noise))
        elif third is not None:
            row.append(third[place][None].to(source.device))
        light = source if source.shape[1] == 1 else translated
        shown = [in_colour(x, light) if lab and x.shape[1] == 2 else as_rgb(x) for x in row]
        if third is None:
            shown.append((shown[1] - shown[0]) / 2)
        rows.append(torch.cat(shown, 3))
    picture = to_uint8(torch.cat(rows, 2))[0]  # (3, N·H, 3·W)
    return Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy()))


def through(network: nn.Module, image: Tensor, noise: bool) -> Tensor:
    with at_test_time(network, noise):
        return network(image)


def in_colour(colour: Tensor, light: Tensor) -> Tensor:
    """Lab's colour (1, 2, H, W) and lightness (1, 1, H, W), in [-1, 1], as RGB (1, 3, H, W)."""
    lab = to_uint8(torch.cat([light, colour], 1))[0].permute(1, 2, 0)
    return to_float(torch.from_numpy(from_lab(lab.cpu().numpy())).permute(2, 0, 1)[None].to(light.device))


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
