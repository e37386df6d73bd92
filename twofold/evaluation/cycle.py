"""The cycle of an image, with the translation handed over as computed or after faint damage."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from twofold.formats import images
from twofold.formats.contract import Contract, Pixels
from twofold.formats.values import UINT8, from_network, to_network
from twofold.randomness import generator
from twofold.translation.translator import Translator

Damage = Callable[[Tensor, int], Tensor]
"""From a translation (1, C, H, W) in [-1, 1] and the image's number, which is the key of random damage."""


class CycleError(NamedTuple):
    """Mean absolute differences in levels of 255, where 255 is the whole range of the values."""

    error: float  # of the image translated there and back from the source
    damage: float  # of the damaged translation from the translation


def translator_cycle(
    image: Pixels, there: Translator, back: Translator, damages: Sequence[Damage], number: int
) -> list[CycleError]:
    """The cycle of one image (H, W, C) as stored, at the size that the networks work at."""
    rows, columns = there.working_size(image.shape[0], image.shape[1], "trained")
    image = np.require(image, requirements=["C", "W"])  # torch warns of read-only memory
    padded = there.pad(back.pad(images.resize(image, rows, columns, nearest=there.header.nearest)))
    source = to_network(torch.from_numpy(padded).permute(2, 0, 1)[None], there.source).to(there.device)
    with torch.inference_mode():
        return cycle_errors(source, there.generator(source), back.generator, damages, number)


def cycle_errors(
    source: Tensor, translation: Tensor, back: nn.Module, damages: Sequence[Damage], number: int
) -> list[CycleError]:
    """The cycle's error after each damage, of one image (1, C, H, W) in [-1, 1]."""
    found = []
    for damage in damages:
        damaged = damage(translation, number)
        found.append(CycleError(distance(back(damaged), source), distance(damaged, translation)))
    return found


def distance(x: Tensor, y: Tensor) -> float:
    return float((x - y).abs().mean()) * 127.5


def no_damage(translation: Tensor, number: int) -> Tensor:  # noqa: ARG001
    return translation


def stored_as(contract: Contract) -> Damage:
    """The rounding of a translation that is written to a file."""

    def damage(translation: Tensor, number: int) -> Tensor:  # noqa: ARG001
        return to_network(from_network(translation.cpu(), contract), contract).to(translation.device)

    return damage


def noise(sigma: float) -> Damage:
    """Gaussian noise of `sigma` levels of 255."""

    def damage(translation: Tensor, number: int) -> Tensor:
        drawn = generator("hidden signal", number).standard_normal(translation.shape, np.float32)
        return (translation + torch.from_numpy(drawn * (sigma / 127.5)).to(translation)).clamp(-1, 1)

    return damage


def holds_jpeg(contract: Contract) -> bool:
    """Whether a JPEG file can hold the images of a domain: 8 bits, and no label maps."""
    return contract == replace(UINT8, channels=contract.channels, found=contract.found, icc=contract.icc)


def jpeg(quality: int, subsampling: str) -> Damage:
    """JPEG of a quality and a chroma subsampling; each channel by itself unless there are three."""

    def stored(planes: Tensor) -> Tensor:
        file, array = io.BytesIO(), planes.permute(1, 2, 0).cpu().numpy()
        picture = Image.fromarray(array if array.shape[2] == 3 else array[..., 0])
        picture.save(file, "JPEG", quality=quality, subsampling=subsampling)
        return torch.from_numpy(np.atleast_3d(np.array(Image.open(file)))).permute(2, 0, 1)

    def damage(translation: Tensor, number: int) -> Tensor:  # noqa: ARG001
        (planes,) = images.to_uint8(translation)
        parts = [planes] if len(planes) == 3 else planes.split(1)
        return images.to_float(torch.cat([stored(part) for part in parts])[None].to(translation.device))

    return damage
