"""Translation in tiles, each computed with all that it depends on, so that tiles meet without a seam.

A tile's pixels equal those of the whole image within rounding: `regions` computes it from every pixel that it depends on,
and the norms take the `statistics` of the whole image. So nothing is blended: where tiles could overlap, they agree.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from twofold.errors import TwofoldError, UsageError
from twofold.formats.contract import Contract, Pixels
from twofold.translation import memory
from twofold.translation.regions import Region
from twofold.translation.sampling import can_sample, sampled
from twofold.translation.statistics import Canvas, Statistics, exact, grid, spilled_bytes

if TYPE_CHECKING:
    from twofold.translation.translator import Translator

T = TypeVar("T")

LARGEST = 1024
"""Side in pixels of the largest tile that is chosen; larger ones are not faster."""

TILE_SHARE, MAPS_SHARE = 0.5, 0.25
"""Shares of the memory for a tile, or for the windows of a sample, and for feature maps of the whole image."""

SAMPLE = 2**22
"""Pixels of a sample, at most. Half of it brought the landscapes of benchmarks/tiles.py within 44 to 49 dB."""

ERROR = 2 / 255
"""Error of a sample's statistics, in values of -1 to 1, up to which `auto` takes them: one of 255 levels."""


class Tiling(NamedTuple):
    """When and how images are translated in tiles.

    Attributes:
        tiles: "auto": images that do not fit into the memory; "off": none; a number: images of more pixels a side,
            in tiles of that side, rounded up to what the network asks for.
        memory: bytes that a translation may take, beside the model; None for what is free.
        statistics: of the norms. "exact": of the whole image. "fast": of a sample of it. "auto": fast where its error
            on some windows is below one of 255 levels, else exact.
        folder: for temporary files of exact statistics that exceed the memory; None for the system's.
    """

    tiles: int | Literal["auto", "off"] = "auto"
    memory: int | None = None
    statistics: Literal["auto", "exact", "fast"] = "auto"
    folder: Path | None = None


def tile_for(
    translator: "Translator", height: int, width: int, count: int, *, held: int | None = None
) -> int | None:
    """The side in pixels of the tiles for images of which the network sees height × width pixels; None for no tiles.

    Args:
        held: pixels of the images that are in memory at a time; None for all of them.

    Raises:
        UsageError: an image does not fit into the memory, or a tile does not.
    """
    tiling, in_torch = translator.tiling, translator.backend == "torch"
    if isinstance(tiling.tiles, int):
        tile = checked_tile(translator, tiling.tiles)
        return tile if max(height, width) > tile else None
    available = memory.room(translator.device, tiling.memory)
    if available is None:
        return None
    forward = translator.forward if in_torch else None
    needed = memory.needed(
        translator.generator, forward, translator.precision, count * height * width, available
    )
    if needed <= available:
        return None
    if count > 1 and tiling.tiles == "off":
        raise memory.refuse(needed, available, height, width)  # the caller tries one by one
    if tiling.tiles == "off" or not in_torch:
        way = "leave out --tiles off to translate in tiles" if in_torch else only_torch(translator)
        raise memory.refuse(needed, available, height, width, f"{way}, or ")
    return tile_that_fits(translator, height * width if held is None else held, available)


def checked_tile(translator: "Translator", side: int) -> int:
    """A tile's side as the user gave it, rounded up to a multiple that the network takes.

    Raises:
        UsageError: it is below 1, the tile does not fit into the memory, or another library than torch runs the network.
    """
    if side < 1:
        raise UsageError(f'tiles must be "auto", "off" or a number of pixels, 1 or more, not {side}')
    if translator.backend != "torch":
        raise UsageError(f"--tiles {side}: {only_torch(translator)}")
    graph = translator.graph
    tile = -(-side // graph.multiple_of) * graph.multiple_of
    available = memory.room(translator.device, translator.tiling.memory)
    needed = tile_bytes(translator, tile)
    if available is not None and needed > available:
        raise UsageError(
            f"a tile of {tile} px needs about {needed / 2**20:,.0f} MiB of memory with the pixels around it, "
            f"{available / 2**20:,.0f} MiB are free; use smaller --tiles, or --tiles auto"
        )
    return tile


def only_torch(translator: "Translator") -> str:
    return f"{translator.backend} does not translate in tiles; give the run or the .safetensors model, with --backend torch"


def tile_that_fits(translator: "Translator", pixels: int, available: int) -> int:
    """The largest tile that fits into the memory beside the arrays of an image of so many pixels.

    Raises:
        UsageError: not even the smallest one fits.
    """
    # the image as it is given and padded, of up to 2 bytes a value, and its output as floats, twice
    arrays = pixels * (4 * translator.source.channels + 8 * translator.target.network_channels)
    multiple, bound = translator.graph.multiple_of, TILE_SHARE * (available - arrays)
    smallest = needed = tile_bytes(translator, multiple)
    if needed > bound:
        advice = "free some memory" if translator.tiling.memory is None else "raise --memory"
        raise UsageError(
            f"the image is too large for this memory: its smallest tile, {multiple} px with the pixels around it, needs "
            f"about {smallest / 2**20:,.0f} MiB, {max(0.0, bound) / 2**20:,.0f} MiB are free for it; {advice} or use a "
            "smaller --at"
        )
    tile = multiple
    while tile < LARGEST and tile_bytes(translator, tile + multiple) <= bound:
        tile += multiple
    return tile


def tile_bytes(translator: "Translator", tile: int) -> float:
    """Peak memory in bytes of a tile with the pixels around it."""
    graph = translator.graph
    side = tile + 2 * graph.reach(translator.context)
    return memory.peak(translator.generator, translator.forward, translator.precision, side**2)


@torch.inference_mode()
def translated(translator: "Translator", image: Pixels, tile: int, source: Contract) -> Tensor:
    """The network's output (1, C, H, W), float32 on the CPU, for an image (H, W, C) at the size that the network sees."""
    height, width = image.shape[:2]
    padded = translator.pad(image)
    canvas = canvas_of(translator, padded.shape[:2], lambda region: cut(padded, region), source)  # pyright: ignore[reportArgumentType]
    statistics = statistics_for(translator, canvas, tile)
    made = torch.empty(1, int(translator.generator.arguments["out_channels"]), height, width)
    for region in tracked(translator, [*grid(height, width, tile)], "tiles"):
        made[:, :, slice(*region.rows), slice(*region.columns)] = output(canvas, statistics, region)
    return made


def cut(pixels: Pixels, region: Region) -> Pixels:
    return pixels[slice(*region.rows), slice(*region.columns)]


def canvas_of(
    translator: "Translator",
    size: tuple[int, int],
    read: Callable[[Region], Pixels],
    source: Contract,
) -> Canvas:
    """An image whose regions `read` gives as stored pixels (h, w, C) of the contract."""

    def to_network(region: Region) -> Tensor:
        return translator.to_network(read(region)[None], source)

    device, precision = translator.device.type, translator.precision

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")

    return Canvas(translator.graph, size, to_network, autocast, translator.seed)


def output(canvas: Canvas, statistics: Statistics, region: Region) -> Tensor:
    """A region of the network's output, (1, C, h, w), float32."""
    last = canvas.graph.last
    return canvas.run({last: region}, statistics.norms, statistics.context)[last].float()


def statistics_for(translator: "Translator", canvas: Canvas, tile: int) -> Statistics:
    """The statistics of an image as `translator.tiling` asks for them."""
    graph, tiling = canvas.graph, translator.tiling
    if not graph.norms and not translator.context:
        return Statistics({}, {}, canvas.size, True)
    available = memory.room(translator.device, tiling.memory) or 2**32
    how, error = tiling.statistics, None
    if how != "exact" and not translator.context and can_sample(canvas):
        each = memory.bytes_per_pixel(translator.generator, translator.forward, translator.precision)
        found, error = sampled(canvas, min(SAMPLE, TILE_SHARE * available / each))
        if how == "fast" or error < ERROR:
            say(translator, tile, f"statistics of a sample (error {error * 127.5:.1f} of 255 levels)")
            return found
    folder = tiling.folder or Path(tempfile.gettempdir())
    kept = min(MAPS_SHARE * available, available - tile_bytes(translator, tile))
    check_disk(folder, spilled_bytes(graph, canvas.size), kept)
    reason = f" (a sample's are wrong by {error * 127.5:.1f} of 255 levels)" if error is not None else ""
    say(translator, tile, f"exact statistics{reason}")
    return exact(canvas, tile, folder, kept, lambda passes: tracked(translator, passes, "statistics"))


def check_disk(folder: Path, needed: int, in_memory: float) -> None:
    free = shutil.disk_usage(folder).free
    if in_memory < needed and free < needed:
        raise TwofoldError(
            f"exact statistics need {needed / 2**30:,.1f} GiB of temporary files, and {folder} has "
            f"{free / 2**30:,.1f} GiB free; use --tile-statistics fast, or free some space"
        )


def say(translator: "Translator", tile: int, statistics: str) -> None:
    if translator.notify:
        translator.notify(f"translating in tiles of {tile} px, {statistics}")


def tracked(translator: "Translator", parts: Sequence[T], what: str, done: int = 0) -> Iterator[T]:
    """The same parts, their progress shown as `translator.track` does; `done` others are done already."""
    track = translator.track
    return track(iter(parts), done + len(parts), what, done) if track else iter(parts)
