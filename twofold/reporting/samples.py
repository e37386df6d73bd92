"""Sample grids: fixed images, their translations, and a third column to judge them by."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from twofold.files import replacing
from twofold.formats.display import View, shown_channels
from twofold.formats.lab import from_lab
from twofold.formats.values import from_network, to_float, to_uint8
from twofold.translation.noise import at_test_time

Third = nn.Module | Sequence[Tensor] | None
"""The third column: a network that translates back, the ground truth, or None for the difference."""


@torch.inference_mode()
def grid(
    sources: Tensor,
    generator: nn.Module,
    third: Third,
    *,
    noise: bool = False,
    lab: bool = False,
    views: tuple[View, View] = (View(), View()),
) -> Image.Image:
    """Rows of (source, translation, third column), one for each of `sources` (N, C, H, W) in [-1, 1].

    The third column is the reconstruction, where `third` is a network; the ground truth, where it is a list of
    images; else the difference between translation and source, grey where there is none. With `lab`, colours are
    shown with the lightness of their row.

    Args:
        views: how the domain of the sources and that of the translations are shown.
    """
    source_view, target_view = views
    third_view = source_view if isinstance(third, nn.Module) else target_view
    rows = []
    for place, source in enumerate(sources.split(1)):
        translated = translate(generator, source, noise)
        row = [source, translated]
        if isinstance(third, nn.Module):
            row.append(translate(third, translated, noise))
        elif third is not None:
            row.append(third[place][None].to(source.device))
        light = source if source.shape[1] == 1 else translated
        shown = [
            in_colour(x, light) if lab and x.shape[1] == 2 else as_rgb(x, view)
            for x, view in zip(row, (source_view, target_view, third_view), strict=False)
        ]
        if third is None:
            shown.append((shown[1] - shown[0]) / 2)
        rows.append(torch.cat(shown, 3))
    picture = to_uint8(torch.cat(rows, 2))[0]  # (3, N·H, 3·W)
    return Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy()))


def translate(network: nn.Module, image: Tensor, noise: bool) -> Tensor:
    with at_test_time(network, noise):
        return network(image)


def in_colour(colour: Tensor, light: Tensor) -> Tensor:
    """Lab's colour (1, 2, H, W) and lightness (1, 1, H, W), in [-1, 1], as RGB (1, 3, H, W)."""
    lab = to_uint8(torch.cat([light, colour], 1))[0].permute(1, 2, 0)
    return to_float(torch.from_numpy(from_lab(lab.cpu().numpy())).permute(2, 0, 1)[None].to(light.device))


def as_rgb(image: Tensor, view: View) -> Tensor:
    """The network's values (1, C, H, W) as three channels in [-1, 1]; grey is repeated, label maps get their colours."""
    if view.contract.labels:
        stored = from_network(image, view.contract)[0].permute(1, 2, 0)
        picture = torch.from_numpy(view.show(stored.cpu().numpy()))
        image = to_float(picture.permute(2, 0, 1)[None].to(image.device))
    else:
        image = image[:, shown_channels(image.shape[1], view.channels)]
    return image.expand(-1, 3, -1, -1)


def write(picture: Image.Image, path: Path) -> None:
    """Write a grid as WebP, whole or not at all."""
    with replacing(path) as aside:
        picture.save(aside, "WEBP", quality=90)
