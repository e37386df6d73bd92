"""How much of the source survives a translation, and whether it survives where nobody sees it."""

import io
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from twofold.formats import images
from twofold.randomness import generator
from twofold.translation.translator import Translator

Uint8 = NDArray[np.uint8]
Float = NDArray[np.float64]

LUMA = (0.299, 0.587, 0.114)
"""Rec. 601."""

SIGMA, QUALITY = 2.0, 75
"""Noise in levels of 255, and the quality of the JPEG, that a translation has to survive."""


def luminance(image: Uint8) -> Float:
    """(H, W, C) as one channel: the luma of colours, else the mean of channels."""
    weights = np.array(LUMA) if image.shape[2] in (3, 4) else np.full(image.shape[2], 1 / image.shape[2])
    return image[..., : len(weights)].astype(np.float64) @ weights


def correlation(x: Float, y: Float) -> float:
    """Pearson's, -1 to 1; 0 where one of them is constant."""
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt(np.square(x).sum() * np.square(y).sum())
    return float((x * y).sum() / scale) if scale > 0 else 0.0


def edges(luma: Float) -> Float:
    """How steep each inner pixel's neighbourhood is: the length of Sobel's gradient."""
    smooth_x, smooth_y = (blurred(luma, axis) for axis in (1, 0))
    across, down = slope(smooth_y, 1)[1:-1], slope(smooth_x, 0)[:, 1:-1]
    return np.hypot(across, down)


def blurred(luma: Float, axis: int) -> Float:
    """(1, 2, 1) along an axis; the ends repeat."""
    padded = np.pad(luma, [(1, 1) if axis == a else (0, 0) for a in (0, 1)], "edge")
    middle, length = 2 * luma, luma.shape[axis]
    return middle + padded.take(range(length), axis) + padded.take(range(2, length + 2), axis)


def slope(luma: Float, axis: int) -> Float:
    length = luma.shape[axis]
    return luma.take(range(2, length), axis) - luma.take(range(length - 2), axis)


def survival(source: Uint8, output: Uint8) -> tuple[float, float]:
    """(luminance correlation, edge agreement) of a translation with its source, both (H, W, C), each -1 to 1.

    Edge agreement is the correlation of how steep both are, so that an edge counts whichever side is brighter.
    """
    x, y = luminance(source), luminance(output)
    return correlation(x, y), correlation(edges(x), edges(y))


class Cycle(NamedTuple):
    """Mean absolute error, in levels of 255, of an image translated and translated back.

    The translation is handed over as the network made it, or rounded to 8 bits, as a JPEG, or with faint noise. A
    cycle that gets much worse by these has hidden the source in the translation (Chu et al. 2017, arXiv 1712.02950).
    """

    plain: float
    bits: float
    jpeg: float
    noise: float


@torch.inference_mode()
def cycle(image: Uint8, there: Translator, back: Translator, number: int) -> Cycle:
    """The cycle of one image (H, W, C) at the size that the networks work at; `number` keys the noise."""
    rows, columns = there.working_size(image.shape[0], image.shape[1], "trained")
    image = np.require(image, requirements=["C", "W"])  # torch warns of read-only memory
    padded = there.pad(back.pad(images.resize(image, rows, columns, nearest=there.header.labels)))
    pixels = torch.from_numpy(padded).permute(2, 0, 1)[None].to(there.device)  # (1, C, H, W)
    source = images.to_float(pixels)
    made = there.generator(source)
    kept = images.to_uint8(made)
    noise = generator("hidden signal", number).standard_normal(made.shape, np.float32) * (SIGMA / 127.5)
    noisy = (made + torch.from_numpy(noise).to(made)).clamp(-1, 1)
    versions = [made, images.to_float(kept), images.to_float(through_jpeg(kept)), noisy]
    return Cycle(*(float((back.generator(x) - source).abs().mean()) * 127.5 for x in versions))


def through_jpeg(pixels: Tensor) -> Tensor:
    """uint8 (1, C, H, W) as a JPEG gives them back; each channel by itself unless there are three."""
    parts = [pixels] if pixels.shape[1] == 3 else list(pixels.split(1, 1))
    stored = []
    for part in parts:
        array = part[0].permute(1, 2, 0).cpu().numpy()
        file = io.BytesIO()
        Image.fromarray(array if array.shape[2] == 3 else array[..., 0]).save(file, "JPEG", quality=QUALITY)
        again = np.atleast_3d(np.array(Image.open(file)))
        stored.append(torch.from_numpy(again).permute(2, 0, 1)[None])
    return torch.cat(stored, 1).to(pixels.device)
