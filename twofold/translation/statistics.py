"""The norms' statistics over a whole image, exactly, from its parts.

The norms are passed one after the other. A pass computes the input of one norm part by part, adds up its mean and
variance, and keeps the feature maps that later passes need, in memory or in a temporary file; maps of full size are never
kept, for computing them again from the image costs less than their disk. Every layer runs about once.
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
from twofold.translation.regions import Graph, Region, frozen

REACH = 96
"""Pixels around a tile that may be computed again for it; beyond, deep feature maps of the whole image are kept."""

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
def exact(
    canvas: Canvas,
    tile: int,
    folder: Path,
    memory: float,
    track: Callable[[list[Pass]], Iterator[Pass]] = iter,
) -> Statistics:
    """The statistics of the whole image.

    Args:
        tile: side in pixels of the parts, a multiple of what the network asks for.
        folder: for temporary files.
        memory: bytes of feature maps that need no files.
        track: yields the passes again, to show progress.

    Raises:
        TwofoldError: no space is left for the temporary files.
    """
    context = context_of(canvas.graph)
    in_memory = spilled_bytes(canvas.graph, canvas.size) <= memory
    norms: dict[int, Moments] = {}
    maps: dict[int, FeatureMap] = {}
    try:
        for each in track(plan_passes(canvas.graph, context)):
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
