"""The norms' statistics over a whole image, from a sample: windows go through the network as one batch whose norms see all."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from twofold.translation.regions import Normalise, Region, frozen
from twofold.translation.statistics import Canvas, Moments, Statistics

SAMPLED_SIDE, SAMPLED_EDGE = 64, 8
"""Side in pixels of the windows of a sample, about, and the edge that is left out of the statistics, for it is padded. Many
small windows are better than few large ones: of a landscape of 2048², half the pixels in 64 px gave 50 to 56 dB."""


class Sample(NamedTuple):
    """Windows of an image, (N, C, s, s) each.

    Attributes:
        inner: evenly over the image.
        rims: at its upper, lower, left and right edge, where the layers pad.
        share: of the image's pixels that lie within `SAMPLED_EDGE` of an edge.
    """

    inner: Tensor
    rims: tuple[Tensor, ...]
    share: float

    def half(self, number: int) -> "Sample":
        """Every second window."""
        return Sample(self.inner[number::2], tuple(rim[number::2] for rim in self.rims), self.share)


def can_sample(canvas: Canvas) -> bool:
    """Whether the windows of a sample have values inside their edge at every norm, as those of tiny images have not."""
    side, steps = window_side(canvas), canvas.graph.steps
    reductions = [steps[norm].reduction for norm in canvas.graph.norms]
    return all(side // each > 2 * max(1, SAMPLED_EDGE // each) for each in reductions)


def window_side(canvas: Canvas) -> int:
    multiple = canvas.graph.multiple_of
    return min(-(-SAMPLED_SIDE // multiple) * multiple, *canvas.size)


@torch.inference_mode()
def sampled(canvas: Canvas, pixels: float) -> tuple[Statistics, float]:
    """Statistics from windows of about `pixels` in all, and the error that they cause.

    The windows are two halves, each spread over the whole image. Each half's statistics differ from those of all windows
    about as these do from the whole image's, so the error is taken from the translations of some windows with both.

    Returns:
        the statistics, and the root mean square error of the translation, in the network's values of -1 to 1.
    """
    sample = spread_windows(canvas, pixels)
    found = [statistics_of(canvas, sample.half(number)) for number in (0, 1)]
    joined = {norm: mixed(found[0][norm], found[1][norm], 0.5) for norm in found[0]}
    probe = torch.cat([sample.inner[:: max(1, len(sample.inner) // 12)], *(rim[:1] for rim in sample.rims)])
    first, second = (translated(canvas, probe, norms) for norms in found)
    error = (first - second).square().mean().sqrt().item() / 2
    return Statistics(joined, {}, canvas.size, False), error


def spread_windows(canvas: Canvas, pixels: float) -> Sample:
    """Windows of about `pixels` in all: rows in order, columns by the golden ratio; one in eight at each edge."""
    side, (height, width) = window_side(canvas), canvas.size
    count = max(4, int(pixels / side**2 / 1.5))

    def windows(number: int, down: Callable[[float], float], right: Callable[[float], float]) -> Tensor:
        found = []
        for each in range(number):
            top = int(down((each + 0.5) / number) * (height - side))
            left = int(right(each * 0.6180339887 % 1) * (width - side))
            found.append(canvas.read(Region((top, top + side), (left, left + side))))
        return torch.cat(found)

    few = max(2, count // 8)
    rims = [windows(few, lambda _, end=end: end, lambda place: place) for end in (0, 1)]
    rims += [windows(few, lambda place: place, lambda _, end=end: end) for end in (0, 1)]
    share = min(1.0, 2 * SAMPLED_EDGE * (height + width) / (height * width))
    return Sample(windows(count, lambda place: place, lambda place: place), tuple(rims), share)


def statistics_of(canvas: Canvas, sample: Sample) -> dict[int, Moments]:
    """The norms' statistics over all windows together, the edges of the image by their share of it."""
    found: dict[int, Moments] = {}
    counts = [len(sample.inner), *map(len, sample.rims)]

    def collect(step: int, values: Tensor) -> Tensor:
        edge = max(1, SAMPLED_EDGE // canvas.graph.steps[step].reduction)
        inner, *rims = values.float().split(counts)
        parts = [rim[cut].movedim(1, 0).flatten(1) for rim, cut in zip(rims, edges(edge), strict=True)]
        middle = inner[:, :, edge:-edge, edge:-edge].movedim(1, 0).flatten(1)
        found[step] = mixed(moments_of(middle), moments_of(torch.cat(parts, 1)), sample.share)
        return frozen(canvas.graph.steps[step].call, values, *found[step])

    run_windows(canvas, torch.cat([sample.inner, *sample.rims]), collect)
    return found


def moments_of(values: Tensor) -> Moments:
    """Of (C, n)."""
    variance, mean = torch.var_mean(values, 1, correction=0)
    return mean, variance


def edges(edge: int) -> list[tuple[slice, ...]]:
    """The upper, lower, left and right edge of windows (N, C, s, s), without their corners."""
    every, inside, first, last = slice(None), slice(edge, -edge), slice(None, edge), slice(-edge, None)
    return [
        (every, every, first, inside),
        (every, every, last, inside),
        (every, every, inside, first),
        (every, every, inside, last),
    ]


def mixed(one: Moments, other: Moments, share: float) -> Moments:
    """The mean and variance of two samples together, of which the other has this share."""
    apart = other[0] - one[0]
    variance = one[1] + (other[1] - one[1]) * share + apart.square() * share * (1 - share)
    return one[0] + apart * share, variance


def translated(canvas: Canvas, windows: Tensor, norms: Mapping[int, Moments]) -> Tensor:
    return run_windows(
        canvas, windows, lambda step, values: frozen(canvas.graph.steps[step].call, values, *norms[step])
    )


def run_windows(canvas: Canvas, windows: Tensor, normalise: Normalise) -> Tensor:
    """The network's output for windows (N, C, s, s) as if each were an image."""
    graph, (height, width) = canvas.graph, windows.shape[2:]
    whole = Region((0, height), (0, width))
    with canvas.autocast():
        made = graph.run(
            {graph.last: whole}, lambda _, region: whole.crop(windows, region), normalise, (height, width)
        )
    return made[graph.last].float()
