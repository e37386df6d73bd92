"""Sources that are read by windows, and the part of a translation that a window shows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from twofold.errors import UsageError
from twofold.formats import images
from twofold.formats.contract import Pixels
from twofold.formats.stored import Stored
from twofold.formats.values import stored_pixels
from twofold.translation import memory, sizes, tiles
from twofold.translation.noise import at_test_time
from twofold.translation.regions import Region
from twofold.translation.statistics import Canvas, Statistics

if TYPE_CHECKING:
    from twofold.translation.translator import Translator

Source = str | Path | Image.Image | Pixels


class Opened(NamedTuple):
    """A source whose regions can be read.

    Attributes:
        read: a region as stored pixels (h, w, C) of the source contract.
        stored: the same as its file stores it; None where the source is not read by windows.
    """

    height: int
    width: int
    read: Callable[[Region], Pixels]
    stored: Callable[[Region], Stored] | None = None


class Windowed:
    """The part of a `Translator` that shows parts of large images."""

    def statistics(self: "Translator", source: Source) -> Statistics:  # pyright: ignore[reportGeneralTypeIssues]
        """What `window` needs to know of a whole image; gather it once for each image.

        How, `tiling` says: its statistics, memory, side of the tiles and folder. "exact" reads and computes the image
        once, "fast" a sample of it.

        Args:
            source: a path, a PIL image or an array, as in `__call__`. A TIFF file is read part by part.

        Raises:
            UsageError: the model is one of Lab, or does not run in torch.
            TwofoldError: the file cannot be read, or the disk has no room for temporary files.
        """
        check_torch(self)
        with opened(self, source) as image, at_test_time(self.generator, self.noise, self.seed):
            available = memory.room(self.device, self.tiling.memory) or 2**32
            given = self.tiling.tiles
            fits = tiles.checked_tile(self, given) if isinstance(given, int) else None
            tile = fits or tiles.tile_that_fits(self, 0, available)
            return tiles.statistics_for(self, canvas_of(self, image), tile)

    def window(
        self: "Translator",  # pyright: ignore[reportGeneralTypeIssues]
        source: Source,
        x: int,
        y: int,
        width: int,
        height: int,
        *,
        statistics: Statistics | None = None,
    ) -> Pixels:
        """Translate a part of an image exactly as the whole would be at its own scale (`at="native"`).

        >>> statistics = translator.statistics("slide.tif")
        >>> part = translator.window("slide.tif", 40_000, 12_000, 512, 512, statistics=statistics)

        Only the pixels that the part depends on are read (of TIFF files) and computed: it and, for a ResNet of nine
        blocks, 85 pixels to each side.

        Args:
            source: as for `statistics`.
            x, y: column and row of the part's upper left pixel.
            width, height: of the part in pixels.
            statistics: of the whole image; None gathers them for this call.

        Returns:
            an array (height, width, out_channels) in the dtype of `target`. With exact statistics it equals the crop of
            the whole translation within one level of 255.

        Raises:
            UsageError: the part does not lie inside the image, or the statistics are of an image of another size or of
                another model.
            TwofoldError: the file cannot be read, or the memory did not suffice.
        """
        check_torch(self)
        found = self.statistics(source) if statistics is None else statistics
        with opened(self, source) as image, at_test_time(self.generator, self.noise, self.seed):
            canvas = canvas_of(self, image)
            if not all(isinstance(number, Integral) for number in (x, y, width, height)):
                given = f"{x}, {y}, {width}, {height}"
                raise UsageError(f"x, y, width and height must be whole numbers, not {given}")
            inside = 0 <= x < x + width <= image.width and 0 <= y < y + height <= image.height
            if not inside:
                raise UsageError(
                    f"a window of {width}×{height} pixels at x = {x}, y = {y} does not lie inside the image of "
                    f"{image.width}×{image.height}"
                )
            if found.size != canvas.size:
                raise UsageError(
                    f"the statistics are of an image of {found.size[1]}×{found.size[0]} pixels, not of "
                    f"{canvas.size[1]}×{canvas.size[0]}; make them with translator.statistics(source)"
                )
            if found.norms.keys() != {*canvas.graph.norms}:
                raise UsageError(
                    "the statistics are of another model; make them with translator.statistics(source)"
                )
            region = Region((y, y + height), (x, x + width))
            with torch.inference_mode(), memory.explain_out_of_memory(height, width):
                return stored_pixels(tiles.output(canvas, found, region), self.target)[0]


@contextmanager
def opened(translator: "Translator", source: Source) -> Iterator[Opened]:
    """Open a source: a TIFF file by windows where its kind allows, anything else as a whole.

    Raises:
        UsageError: it has another type or number of channels.
        ImageError: the file cannot be read.
    """
    if isinstance(source, str | Path):
        with images.open_windows(source) if is_tiff(Path(source)) else nullcontext() as windows:
            if windows is not None:
                yield by_windows(translator, Path(source), windows)
                return
    pixels = translator.stored(source)
    yield Opened(pixels.shape[0], pixels.shape[1], lambda region: tiles.cut(pixels, region))


def by_windows(translator: "Translator", path: Path, windows: Any) -> Opened:
    def stored(region: Region) -> Stored:
        with images.named_errors(path):
            return windows.read(slice(*region.rows), slice(*region.columns))

    def fitted(region: Region) -> Pixels:
        part = stored(region)
        with images.named_errors(path):
            return images.fit(part, translator.source)

    return Opened(windows.facts.height, windows.facts.width, fitted, stored)


def is_tiff(path: Path) -> bool:
    return path.suffix.lower() in images.TIFF_SUFFIXES


def canvas_of(translator: "Translator", source: Opened) -> Canvas:
    """A source at its own scale as the network sees it: mirrored at its lower and right edge up to a size that it takes."""
    size = tuple(sizes.taken(side, translator.generator) for side in (source.height, source.width))

    def mirrored(region: Region) -> Pixels:
        rows, columns = (
            _mirrored(ends, side) for ends, side in zip(region, (source.height, source.width), strict=True)
        )
        whole = Region((rows.min(), rows.max() + 1), (columns.min(), columns.max() + 1))
        pixels = source.read(whole)
        return pixels[rows - rows.min()][:, columns - columns.min()]

    return tiles.canvas_of(translator, size, mirrored, translator.source)  # pyright: ignore[reportArgumentType]


def _mirrored(ends: tuple[int, int], side: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    places = np.arange(*ends) % (2 * side)
    return np.where(places < side, places, 2 * side - 1 - places)


def check_torch(translator: "Translator") -> None:
    if translator.header.lab:
        raise UsageError("a model of lightness and colour (Lab) has no windows; translate the whole image")
    if translator.backend != "torch":
        raise UsageError(
            f"{translator.backend} has no windows; load the run or the .safetensors model, with backend='torch'"
        )
