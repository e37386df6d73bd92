"""The norms' statistics over a whole image, from its parts: exactly, or from a sample.

Exactly: the norms are passed one after the other. A pass computes the input of one norm part by part, adds up its mean and
variance, and keeps the feature maps that later passes need, in memory or in a temporary file; maps of full size are never
kept, for computing them again from the image costs less than their disk. Every layer runs about once.

From a sample: windows spread over the image go through the network as one batch whose norms see all of them.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from math import isqrt, prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from twofold.errors import TwofoldError
from twofold.translation.regions import Graph, Normalise, Region, frozen

REACH = 96
"""Pixels around a tile that may be computed again for it; beyond, deep feature maps of the whole image are kept."""

SAMPLED_SIDE, SAMPLED_EDGE = 64, 8
"""Side in pixels of the windows of a sample, about, and the edge that is left out of the statistics, for it is padded. Many
small windows are better than few large ones: of a landscape of 2048², half the pixels in 64 px gave 50 to 56 dB."""

Moments = tuple[Tensor, Tensor]
"""Mean and variance of each channel, float32 (C,)."""


class Canvas(NamedTuple):
    """An image as the network sees it, and how to run the network on its parts.

    Attributes:
        size: height and width in pixels, multiples of what the network asks for.
        read: a region as (1, C, h, w) in [-1, 1] on the network's device.
        autocast: the context that sets the precision.
        seed: of dropout masks, where dropout is on.
    """

    graph: Graph
    size: tuple[int, int]
    read: Callable[[Region], Tensor]
    autocast: Callable[[], AbstractContextManager[Any]]
    seed: int = 0

    def run(
        self,
        wanted: Mapping[int, Region],
        norms: Mapping[int, Moments],
        stored: Mapping[int, "FeatureMap"],
    ) -> dict[int, Tensor]:
        """Regions of steps' outputs, with the given statistics."""

        def read(step: int, region: Region) -> Tensor:
            return stored[step].read(region) if step else self.read(region)

        def normalise(step: int, values: Tensor) -> Tensor:
            return frozen(self.graph.steps[step].call, values, *norms[step])

        with self.autocast():
            return self.graph.run(wanted, read, normalise, self.size, stored=stored, seed=self.seed)


class Statistics(NamedTuple):
    """What a part of an image must know of the whole to be translated as the whole would be.

    Attributes:
        norms: for each norm's step the mean and the variance of its input.
        context: feature maps of the whole image, for networks whose deep layers see nearly all of it.
        size: height and width of the image as the network sees it.
        exact: whether they are of the whole image; else of a sample.
    """

    norms: dict[int, Moments]
    context: dict[int, "FeatureMap"]
    size: tuple[int, int]
    exact: bool


class FeatureMap:
    """The output of a step for the whole image, (height, width, channels), in memory or in a temporary file.

    Args:
        folder: of the file, which is removed when the map is dropped or the process ends; None for memory.
    """

    def __init__(self, like: Tensor, size: tuple[int, int], folder: Path | None) -> None:
        self.like, self.width = like.new_empty(0), size[1]
        self.channels = like.shape[1]
        if folder is None:
            self.values = torch.empty(*size, self.channels, dtype=like.dtype)
        else:
            self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the map

    def write(self, region: Region, values: Tensor) -> None:
        """Keep (1, C, h, w).

        Raises:
            OSError: the disk is full.
        """
        rows = values[0].permute(1, 2, 0).cpu().contiguous()
        if not hasattr(self, "file"):
            self.values[slice(*region.rows), slice(*region.columns)] = rows
            return
        for y, row in zip(range(*region.rows), rows.view(torch.uint8).numpy(), strict=True):
            self.file.seek(self._place(y, region))
            self.file.write(row.data)

    def read(self, region: Region) -> Tensor:
        """(1, C, h, w) as they were written."""
        if not hasattr(self, "file"):
            rows = self.values[slice(*region.rows), slice(*region.columns)].contiguous()
        else:
            rows = torch.empty(*region.shape, self.channels, dtype=self.like.dtype)
            for y, row in zip(range(*region.rows), rows.view(torch.uint8).numpy(), strict=True):
                self.file.seek(self._place(y, region))
                self.file.readinto(row.data)  # pyright: ignore[reportAttributeAccessIssue]
        return rows.permute(2, 0, 1)[None].to(self.like.device)

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()

    def _place(self, y: int, region: Region) -> int:
        return (y * self.width + region.columns[0]) * self.channels * self.like.element_size()


class Pass(NamedTuple):
    """One pass over an image.

    Attributes:
        target: the step whose output is computed everywhere.
        norm: the norm that takes it; None where it is only kept.
        kept: steps whose outputs this pass writes.
        stored: all steps whose outputs are held after it.
    """

    target: int
    norm: int | None
    kept: tuple[int, ...]
    stored: tuple[int, ...]


def context_of(graph: Graph) -> tuple[int, ...]:
    """The steps to keep for a network that sees further than `REACH`: the deep maps that its last doublings take."""
    reductions = sorted({step.reduction for step in graph.steps}, reverse=True)
    kept: tuple[int, ...] = ()
    for level in reductions[:-1]:
        if graph.reach(kept) <= REACH:
            break
        ups = [step for step in graph.steps if step.reduction == level]
        deep = {each for step in ups for each in step.inputs if graph.steps[each].reduction > level}
        kept = tuple(sorted(deep)) or kept
    return kept


def plan_passes(graph: Graph, context: tuple[int, ...]) -> list[Pass]:
    """The passes that give every norm's statistics and the context, in their order."""
    steps = graph.steps
    targets: dict[int, int | None] = {
        number: None
        for number, step in enumerate(steps)
        if step.inputs and 1 < step.reduction != steps[step.inputs[0]].reduction
    }
    targets |= {steps[norm].inputs[0]: norm for norm in graph.norms}
    final = max([*(steps[norm].inputs[0] for norm in graph.norms), *context], default=0)
    targets = {target: targets[target] for target in sorted(targets) if target <= final}
    if final and final not in targets:
        targets[final] = None
    passes: list[Pass] = []
    held: set[int] = set()
    for target in targets:
        later = range(target + 1, final + 1)
        alive = {each for number in later for each in steps[number].inputs if 0 < each <= target}
        alive = {each for each in alive if steps[each].reduction > 1} | {c for c in context if c <= target}
        kept = alive - held
        held = alive
        passes.append(Pass(target, targets[target], tuple(sorted(kept)), tuple(sorted(held))))
    return passes


def spilled_bytes(graph: Graph, size: tuple[int, int]) -> int:
    """The most bytes of feature maps that `exact` holds at a time."""
    passes = plan_passes(graph, context_of(graph))
    pairs = zip([(), *(each.stored for each in passes)], passes, strict=False)
    held = [{*before, *each.kept} for before, each in pairs]
    values = (sum(graph.steps[n].channels * prod(graph.size(n, *size)) for n in each) for each in held)
    return 4 * max(values, default=0)


@torch.inference_mode()
def exact(canvas: Canvas, tile: int, folder: Path, memory: float) -> Statistics:
    """The statistics of the whole image.

    Args:
        tile: side in pixels of the parts, a multiple of what the network asks for.
        folder: for temporary files.
        memory: bytes of feature maps that need no files.

    Raises:
        TwofoldError: no space is left for the temporary files.
    """
    context = context_of(canvas.graph)
    in_memory = spilled_bytes(canvas.graph, canvas.size) <= memory
    norms: dict[int, Moments] = {}
    maps: dict[int, FeatureMap] = {}
    try:
        for each in plan_passes(canvas.graph, context):
            moments = one_pass(canvas, each, tile, norms, maps, None if in_memory else folder)
            if each.norm is not None:
                norms[each.norm] = moments
            for number in maps.keys() - {*each.stored}:
                del maps[number]
    except OSError as error:
        raise TwofoldError(
            f"cannot write temporary files to {folder}: {error.strerror}; free some space, or use --tile-statistics fast"
        ) from error
    return Statistics(norms, {number: maps[number] for number in context}, canvas.size, True)


def one_pass(
    canvas: Canvas,
    step: Pass,
    tile: int,
    norms: Mapping[int, Moments],
    maps: dict[int, FeatureMap],
    folder: Path | None,
) -> Moments:
    """Compute a step everywhere, add what is kept to `maps`, and return the mean and variance of each channel."""
    graph = canvas.graph
    wanted = (step.target, *step.kept)
    everywhere = {n: Region(*((0, side) for side in graph.size(n, *canvas.size))) for n in wanted}
    finest = min(graph.steps[n].reduction for n in graph.needed(everywhere, maps, *canvas.size))
    side = -(-tile * isqrt(finest) // graph.multiple_of) * graph.multiple_of  # small maps allow larger parts
    stored = dict(maps)
    sums = Sums()
    for region in grid(*canvas.size, side):
        parts = {n: region.scaled(graph.steps[n].reduction) for n in wanted}
        found = canvas.run(parts, norms, stored)
        for number in step.kept:
            if number not in maps:
                maps[number] = FeatureMap(found[number], graph.size(number, *canvas.size), folder)
            maps[number].write(parts[number], found[number])
        sums.add(found[step.target])
    return sums.moments()


class Sums:
    """Mean and variance of values that come in parts (Chan, Golub & LeVeque 1979), in float64."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, values: Tensor) -> None:
        """Add (N, C, h, w)."""
        count = values.numel() // values.shape[1]
        found = torch.var_mean(values.float(), (0, 2, 3), correction=0)
        variance, mean = (each.cpu().double() for each in found)
        total = self.count + count
        apart = mean - self.mean
        self.squares = self.squares + variance * count + apart.square() * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count, self.device = total, values.device

    def moments(self) -> Moments:
        return self.mean.float().to(self.device), (self.squares / self.count).float().to(self.device)


def grid(height: int, width: int, tile: int) -> Iterator[Region]:
    """Tiles that cover an image, row by row; those at the lower and right edge are smaller."""
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            yield Region((top, min(top + tile, height)), (left, min(left + tile, width)))


# ---- from a sample


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
    multiple, (height, width) = canvas.graph.multiple_of, canvas.size
    side = min(-(-SAMPLED_SIDE // multiple) * multiple, height, width)
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
    mean = one[0] + (other[0] - one[0]) * share
    apart = (one[0] - mean).square() * (1 - share) + (other[0] - mean).square() * share
    return mean, one[1] + (other[1] - one[1]) * share + apart


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
