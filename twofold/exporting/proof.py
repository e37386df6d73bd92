"""The proof of an export: the file's translations against those of PyTorch."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from twofold.errors import TwofoldError
from twofold.exporting.pictures import Picture, middle
from twofold.formats.contract import Contract, Pixels
from twofold.formats.images import resize
from twofold.formats.values import UINT8, from_network, to_network
from twofold.translation.translator import Translator

ODD_SIZES = ((130, 201), (67, 41))
"""(height, width) in pixels that no network takes as they are."""


@dataclass(frozen=True)
class Row:
    """The comparison of one input.

    Attributes:
        size: (height, width) in pixels, as the file was given them.
        images: how many there were in the batch.
        max, mean: absolute difference, in levels of the target.
        psnr: in dB, relative to the range of the target; infinite where nothing differs.
        torch_ms, file_ms: milliseconds for each image.
    """

    name: str
    size: tuple[int, int]
    images: int
    max: float
    mean: float
    psnr: float
    torch_ms: float
    file_ms: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which has no infinity."""
        return asdict(self) | {"psnr": None if math.isinf(self.psnr) else self.psnr}


class Proof:
    """Compares a file with a translator on the CPU, with dropout off.

    Args:
        run: runs the file on an input in its own form, (N, C, H, W) or (N, H, W, C).
        stored: whether the file takes and gives stored values.
    """

    def __init__(self, translator: Translator, run: Callable[[Pixels], Pixels], *, stored: bool) -> None:
        self.translator, self.run, self.stored = translator, run, stored
        lab = translator.header.lab
        self.source, self.target = (UINT8, UINT8) if lab else (translator.source, translator.target)

    def rows(self, pictures: Sequence[Picture], fixed: tuple[int, int] | None) -> Iterator[Row]:
        """One row for each picture at its scale, and for odd sizes; or for each picture at the fixed size."""
        inputs = [*self.inputs(pictures, fixed)]
        for run in (self.of_torch, self.of_file):
            run(inputs[0][1])  # the first time takes longer
        for name, batch in inputs:
            yield self.compare(name, batch)

    def inputs(
        self, pictures: Sequence[Picture], fixed: tuple[int, int] | None
    ) -> Iterator[tuple[str, list[Pixels]]]:
        nearest = self.translator.header.nearest
        for name, pixels in pictures:
            size = fixed or self.translator.working_size(*pixels.shape[:2])
            scaled = resize(pixels, *size, nearest=nearest)
            yield name, [scaled if fixed else middle(scaled)]
        for size in () if fixed else ODD_SIZES:
            yield pictures[0].name, [resize(pictures[0].pixels, *size, nearest=nearest)]
        if not fixed:
            yield "a batch", [resize(each.pixels, *ODD_SIZES[0], nearest=nearest) for each in pictures[:2]]

    def compare(self, name: str, batch: Sequence[Pixels]) -> Row:
        expected, torch_ms = timed(self.of_torch, batch)
        found, file_ms = timed(self.of_file, batch)
        difference = np.nan_to_num(np.abs(found - expected), nan=math.inf, posinf=math.inf)
        error = float(np.mean(np.square(difference)))
        psnr = 10 * math.log10(levels(self.target).max() ** 2 / error) if 0 < error < math.inf else math.inf
        (height, width), count = batch[0].shape[:2], len(batch)
        largest, mean = float(difference.max()), float(difference.mean())
        return Row(name, (height, width), count, largest, mean, psnr, torch_ms / count, file_ms / count)

    @torch.inference_mode()
    def of_torch(self, batch: Sequence[Pixels]) -> Pixels:
        """PyTorch's translations in levels of the target, float64 (N, C, H, W)."""
        height, width = batch[0].shape[:2]
        padded = planes(np.stack([self.translator.pad(image) for image in batch]))
        translated = self.translator.forward(to_network(padded, self.source))[:, :, :height, :width]
        return self.in_levels(from_network(translated, self.target) if self.stored else translated)

    @torch.inference_mode()
    def of_file(self, batch: Sequence[Pixels]) -> Pixels:
        """The file's translations, as those of `of_torch`."""
        if self.stored:
            return self.in_levels(planes(self.run(np.stack(batch))))
        values = to_network(planes(np.stack(batch)), self.source)
        return self.in_levels(torch.from_numpy(self.run(values.contiguous().numpy())))

    def in_levels(self, values: Tensor) -> Pixels:
        every = levels(self.target)
        ranges = np.array(self.target.high) - np.array(self.target.low) if self.stored else 2
        return values.numpy().astype(np.float64) * (every / ranges)[:, None, None]


def planes(pixels: Pixels) -> Tensor:
    """(N, H, W, C) to (N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, 3, 1)))


def timed(run: Callable[[Sequence[Pixels]], Pixels], batch: Sequence[Pixels]) -> tuple[Pixels, float]:
    """The result and the milliseconds it took."""
    start = time.perf_counter()
    result = run(batch)
    return result, (time.perf_counter() - start) * 1000


def levels(target: Contract) -> Pixels:
    """Levels in the range of each channel: whole numbers for integers, 4,095 for floats, 255 for label maps."""
    ranges = np.array(target.high) - np.array(target.low)
    if target.is_labels:
        return np.full_like(ranges, 255)
    return np.full_like(ranges, 4095) if target.dtype.startswith("float") else ranges


def default_tolerance(target: Contract, fp16: bool) -> float:
    """The largest difference allowed, in levels.

    float32: one level, or a 1,000th of the range of deeper images. fp16: 8 of 255 levels, or the same share of others.
    """
    every = float(levels(target).max())
    return every * 8 / 255 if fp16 else max(1.0, every / 1000)


def check(rows: Sequence[Row], tolerance: float, fp16: bool) -> None:
    """Refuse a file that differs by more than `tolerance` levels.

    Raises:
        TwofoldError: names the worst input.
    """
    worst = max(rows, key=lambda row: row.max)
    if not worst.max <= tolerance:
        height, width = worst.size
        raise TwofoldError(
            f"the file differs from PyTorch by up to {worst.max:.3g} levels ({worst.name}, {width}x{height}), more than"
            f" --tolerance {tolerance:g}; nothing was written: {'leave out --fp16, or ' * fp16}allow more with --tolerance"
        )
