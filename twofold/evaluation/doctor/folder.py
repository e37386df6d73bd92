"""What a run folder holds, taken on no trust: whatever is missing, torn or of the wrong kind reads as empty."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twofold.read_untrusted import as_list, room


class File(NamedTuple):
    """An image file of a run."""

    path: Path
    hash: str
    """Of its content; of a file that is a pair, with the part of it that is the image."""


class Files(NamedTuple):
    """Those of one domain, in natural order."""

    train: list[File]
    held_out: list[File]


def files(document: dict[Any, Any], side: str) -> Files:
    """The images of a side, "a" or "b", of data.json's content."""
    here = room(document, side)
    drawn = {name for name in as_list(here.get("held_out")) if isinstance(name, str)}
    listed = listing(here)
    return Files(
        [file for name, file in listed if name not in drawn],
        [file for name, file in listed if name in drawn] + [file for _, file in listing(room(here, "val"))],
    )


def listing(content: dict[Any, Any]) -> list[tuple[str, File]]:
    """(name, file) of a folder's images that could be read."""
    folder, part = Path(str(content.get("folder"))), content.get("part", "")
    rows = [row for row in as_list(content.get("files")) if isinstance(row, dict) and not row.get("error")]
    return [
        (row["name"], File(folder / row["name"], f"{row['hash']}{part}"))
        for row in rows
        if isinstance(row.get("name"), str) and isinstance(row.get("hash"), str)
    ]


def cells(path: Path) -> list[NDArray[np.float32]]:
    """The three columns of a sample grid, each (N, side, side, 3); empty where the file is torn or no grid."""
    try:
        with Image.open(path, formats=["WEBP"]) as stored:
            picture = np.asarray(stored.convert("RGB"))
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
    ):  # all that Pillow raises for damage
        return []
    height, side = picture.shape[0], picture.shape[1] // 3
    if side == 0 or picture.shape[1] % 3 or height % side:
        return []
    rows = picture.reshape(height // side, side, 3, side, 3).transpose(2, 0, 1, 3, 4)
    return [*(rows.astype(np.float32) / 255)]


def number(value: object) -> float:
    """A log's number, infinite where it is beyond reason or JSON's NaN; NaN for whatever else it may hold."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return math.nan
    return float(value) if abs(value) < 1e100 else math.inf


def count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
