"""The content of a run folder, read without trust: what is missing, damaged or of the wrong kind reads as empty."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twofold.read_untrusted import as_list, room


class File(NamedTuple):
    """An image file of a run. The hash is that of its content, and names the half if the image is one half of it."""

    path: Path
    hash: str


class Files(NamedTuple):
    """The image files of one domain, in natural order."""

    train: list[File]
    held_out: list[File]


def files(document: dict[Any, Any], side: str) -> Files:
    """The images of domain "a" or "b" in data.json's content."""
    here = room(document, side)
    drawn = {name for name in as_list(here.get("held_out")) if isinstance(name, str)}
    listed = readable_files(here)
    return Files(
        [file for name, file in listed if name not in drawn],
        [file for name, file in listed if name in drawn]
        + [file for _, file in readable_files(room(here, "val"))],
    )


def readable_files(content: dict[Any, Any]) -> list[tuple[str, File]]:
    """(name, file) of a folder's images that were readable when the run started."""
    folder, part = Path(str(content.get("folder"))), content.get("part", "")
    rows = [row for row in as_list(content.get("files")) if isinstance(row, dict) and not row.get("error")]
    return [
        (row["name"], File(folder / row["name"], f"{row['hash']}{part}"))
        for row in rows
        if isinstance(row.get("name"), str) and isinstance(row.get("hash"), str)
    ]


def grid_columns(path: Path) -> list[NDArray[np.float32]]:
    """The three columns of a sample grid, each (N, side, side, 3) in [0, 1]; empty if the file is damaged or no grid."""
    try:
        with Image.open(path, formats=["WEBP"]) as stored:
            picture = np.asarray(stored.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow raises for damage
        return []
    height, side = picture.shape[0], picture.shape[1] // 3
    if side == 0 or picture.shape[1] % 3 or height % side:
        return []
    rows = picture.reshape(height // side, side, 3, side, 3).transpose(2, 0, 1, 3, 4)
    return [*(rows.astype(np.float32) / 255)]


def number(value: object) -> float:
    """A number of a log; infinite if it is absurdly large or JSON's NaN; NaN for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return math.nan
    return float(value) if abs(value) < 1e100 else math.inf


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
