"""A TIFF file of any size to a TIFF file, row of tiles by row of tiles; a broken run goes on where it stopped.

What is done is kept beside the target, in a folder with a leading dot: the compressed tiles in one file, and a journal that
is written anew after each row. At the end the tiles become the target, and the folder goes.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import safetensors.torch
import torch

from twofold.errors import TwofoldError
from twofold.files import replacing, sync, write_atomically
from twofold.formats import images, write_tiff
from twofold.formats.contract import Pixels
from twofold.formats.values import stored_pixels
from twofold.formats.write import with_alpha
from twofold.translation import inputs, memory, model_file, tiles, windows
from twofold.translation.noise import at_test_time
from twofold.translation.regions import Region
from twofold.translation.statistics import Canvas, Statistics
from twofold.translation.windows import Opened

if TYPE_CHECKING:
    from twofold.translation.sources import Job
    from twofold.translation.translator import Translator

FROM = 2**24
"""Pixels of a TIFF file from which it is read by windows, where it is translated in tiles."""

ROWS, STATISTICS = "rows.json", "statistics.safetensors"
"""Files of the folder that is kept: sizes of the compressed tiles of each finished row, and the norms' statistics."""

WRITTEN_SIDE = 256
"""Side in pixels of the tiles of the results, at most."""


def large_size(path: Path) -> tuple[int, int] | None:
    """Height and width of a TIFF file of at least `FROM` pixels that can be read by windows; None for other files."""
    if not windows.is_tiff(path):
        return None
    try:
        with images.open_windows(path) as found:
            size = (found.facts.height, found.facts.width) if found else (0, 0)
    except TwofoldError:
        return None  # reading it says why
    return size if size[0] * size[1] >= FROM else None


class Work(NamedTuple):
    """What is known of one translation before its rows.

    Attributes:
        tile: side in pixels of the network's tiles, a multiple of `written`.
        written: side in pixels of the file's tiles.
        key: what must be equal for a broken run to go on: source, model, settings.
    """

    tile: int
    written: int
    key: str


def translate(translator: "Translator", job: "Job", tile: int) -> None:
    """Translate one file at its own scale.

    Args:
        tile: side in pixels.

    Raises:
        ImageError: a part of the source is damaged, or the target cannot be written; what is done is kept.
        TwofoldError: there is too little memory or disk.
    """
    folder = folder_beside(job.target)
    with (
        images.open_windows(job.source) as found,
        at_test_time(translator.generator, translator.noise, translator.seed),
        memory.for_large_images(tile**2),
    ):
        source = windows.by_windows(translator, job.source, found)
        canvas = windows.canvas_of(translator, source)
        work = resumed(folder, work_of(translator, job, tile))
        check_disk(translator, job, source)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            journal = Journal(folder, work)
            statistics = kept_statistics(translator, canvas, folder, work.tile)
            rows, what = range(0, source.height, work.tile), f"{job.source.name}, rows of tiles"
            with ThreadPoolExecutor(4, "twofold-encode") as pool:
                for top in tiles.tracked(translator, rows[journal.rows_done :], what, journal.rows_done):
                    band = translated_band(translator, canvas, source, statistics, top, work)
                    journal.add_row(pool.map(lambda part: encoded(part, work, translator), cuts(band, work)))
            finish(translator, job, journal, work, found)
        except OSError as error:
            raise images.ImageError(f"cannot write {job.target}: {error.strerror or error}") from error
        finally:
            if not any((folder / name).is_file() for name in (ROWS, STATISTICS)):
                shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder)


def folder_beside(target: Path) -> Path:
    """The folder for what is done of a target that is not finished."""
    return target.with_name(f".{target.name}.parts")


def kept(target: Path) -> str:
    """What a broken translation has left for the next one, in words; empty if there is nothing."""
    folder = folder_beside(target)
    rows = f"finished rows of tiles are in {folder}; the same command goes on there, unless the source is changed"
    return rows if (folder / ROWS).is_file() else ""


def work_of(translator: "Translator", job: "Job", tile: int) -> Work:
    multiple = max(16, translator.graph.multiple_of)
    step = WRITTEN_SIDE if tile >= WRITTEN_SIDE and WRITTEN_SIDE % multiple == 0 else multiple
    tile = max(step, tile // step * step)
    facts = job.source.stat()
    model = model_file.content(translator.generator, translator.header)
    settings = (translator.precision, translator.noise, translator.seed, translator.tiling.statistics)
    names = (str(job.source.resolve()), facts.st_size, facts.st_mtime_ns, settings)
    key = hashlib.sha256(model + repr(names).encode()).hexdigest()
    return Work(tile, gcd(tile, WRITTEN_SIDE), key)


def resumed(folder: Path, work: Work) -> Work:
    """The work of a broken run, whose tiles have its side, if it is the same work; else its folder is removed."""
    try:
        before = Work(**json.loads((folder / "work.json").read_text()))
    except (OSError, ValueError, TypeError):
        before = None
    if before is not None and before.key == work.key:
        return before
    shutil.rmtree(folder, ignore_errors=True)
    return work


def check_disk(translator: "Translator", job: "Job", source: Opened) -> None:
    """Raise TwofoldError where the disk holds less than half of the pixels, as they are before compression."""
    target = translator.target
    raw = source.height * source.width * target.channels * np.dtype(target.dtype).itemsize
    place = next(each for each in job.target.absolute().parents if each.is_dir())
    free = shutil.disk_usage(place).free
    if free < raw / 2:
        raise TwofoldError(
            f"{job.target} takes up to {raw / 2**30:,.2f} GiB while it is written, and {place} has {free / 2**30:,.2f} GiB"
            " free; free some space or choose another -o"
        )


class Journal:
    """The compressed tiles of finished rows, and their sizes."""

    def __init__(self, folder: Path, work: Work) -> None:
        self.folder, self.data, self.list = folder, folder / "tiles", folder / ROWS
        self.sizes: list[list[int]] = json.loads(self.list.read_text()) if self.list.is_file() else []
        if not (folder / "work.json").is_file():
            write_atomically(folder / "work.json", json.dumps(work._asdict()), durable=True)
        with self.data.open("ab") as file:
            file.truncate(sum(map(sum, self.sizes)))  # without what a broken run began

    @property
    def rows_done(self) -> int:
        return len(self.sizes)

    def add_row(self, encoded: Iterator[bytes]) -> None:
        sizes = []
        with self.data.open("ab") as file:
            for part in encoded:
                sizes.append(len(part))
                file.write(part)
        sync(self.data)
        self.sizes.append(sizes)
        write_atomically(self.list, json.dumps(self.sizes), durable=True)

    def tiles(self) -> Iterator[bytes]:
        with self.data.open("rb") as file:
            for size in (size for row in self.sizes for size in row):
                yield file.read(size)


def kept_statistics(translator: "Translator", canvas: Canvas, folder: Path, tile: int) -> Statistics:
    """The statistics of the whole image; those of a broken run where it had them, unless feature maps belong to them."""
    path = folder / STATISTICS
    if path.is_file() and not translator.context:
        kept = safetensors.torch.load_file(path)
        norms = {
            norm: (kept[f"{norm}.mean"].to(translator.device), kept[f"{norm}.variance"].to(translator.device))
            for norm in canvas.graph.norms
        }
        return Statistics(norms, {}, canvas.size, "exact" in kept)
    found = tiles.statistics_for(translator, canvas, tile)
    kept = {"exact": torch.ones(1)} if found.exact else {}
    for norm, (mean, variance) in found.norms.items():
        kept |= {f"{norm}.mean": mean.cpu(), f"{norm}.variance": variance.cpu()}
    write_atomically(path, safetensors.torch.save(kept), durable=True)
    return found


@torch.inference_mode()
def translated_band(
    translator: "Translator", canvas: Canvas, source: Opened, statistics: Statistics, top: int, work: Work
) -> Pixels:
    """A row of tiles over the whole width, as stored pixels (h, W, C), with the alpha of the source if it has some."""
    bottom = min(top + work.tile, source.height)
    parts = []
    for left in range(0, source.width, work.tile):
        region = Region((top, bottom), (left, min(left + work.tile, source.width)))
        made = stored_pixels(tiles.output(canvas, statistics, region), translator.target)[0]
        stored = source.stored(region) if source.stored and translator.target.channels == 3 else None
        alpha = inputs.alpha_of(stored, translator.target) if stored and stored.facts.alpha else None
        parts.append(with_alpha(made, alpha, ".tif")[0])
    return np.concatenate(parts, 1)


def cuts(band: Pixels, work: Work) -> Iterator[Pixels]:
    """The tiles of the file in a band, row by row."""
    for top in range(0, band.shape[0], work.written):
        for left in range(0, band.shape[1], work.written):
            yield band[top : top + work.written, left : left + work.written]


def encoded(part: Pixels, work: Work, translator: "Translator") -> bytes:
    labels = translator.target.labels
    return write_tiff.encoded_tile(part, work.written, bool(labels and labels.palette))


def finish(translator: "Translator", job: "Job", journal: Journal, work: Work, found: Any) -> None:
    """Write the target from the finished tiles, whole or not at all."""
    target = translator.target
    corner = found.read(slice(0, 1), slice(0, 1))
    metadata = inputs.metadata_of(corner, translator.source, target)
    has_alpha = inputs.alpha_of(corner, target) is not None
    palette = target.labels.palette if target.labels else ()
    shape = (found.facts.height, found.facts.width, target.channels + has_alpha)
    dtype, tile = np.dtype(target.dtype), (work.written, work.written)
    with replacing(job.target, durable=True) as aside, aside.open("w+b") as file:
        write_tiff.write(file, journal.tiles(), shape, dtype, metadata, has_alpha, palette, tile)
