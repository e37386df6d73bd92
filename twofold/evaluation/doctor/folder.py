"""The content of a run folder, read without trust: what is missing, damaged or of the wrong kind reads as empty."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open

from twofold.formats.contract import Contract
from twofold.read_untrusted import as_dict, as_list, room
from twofold.runs import Run


class File(NamedTuple):
    """An image file of a run.

    Attributes:
        hash: of its content; names the half if the image is one half of it.
        size: width and height in pixels, where data.json has them.
    """

    name: str
    path: Path
    hash: str
    size: tuple[int, int] | None = None


class Files(NamedTuple):
    """The image files of one domain, in natural order."""

    train: list[File]
    held_out: list[File]


def files(document: dict[Any, Any], side: str) -> Files:
    """The images of domain "a" or "b" in data.json's content."""
    here = room(document, side)
    drawn, listed = set(map(str, as_list(here.get("held_out")))), readable_files(here)
    held_out = [file for file in listed if file.name in drawn] + readable_files(room(here, "val"))
    return Files([file for file in listed if file.name not in drawn], held_out)


def readable_files(content: dict[Any, Any]) -> list[File]:
    """A folder's images that were readable when the run started."""
    folder, part = Path(str(content.get("folder"))), content.get("part", "")
    rows = [row for row in map(as_dict, as_list(content.get("files"))) if not row.get("error")]
    named = [(row.get("name"), row.get("hash"), size_of(row)) for row in rows]
    return [
        File(name, folder / name, f"{key}{part}", size)
        for name, key, size in named
        if isinstance(name, str) and isinstance(key, str)
    ]


def size_of(row: dict[Any, Any]) -> tuple[int, int] | None:
    width, height = number(row.get("width")), number(row.get("height"))
    return (round(width), round(height)) if 1 <= width < 1 << 24 and 1 <= height < 1 << 24 else None


def loss_weights(config: dict[Any, Any]) -> dict[Any, Any]:
    """The settings of the run's method."""
    method = str(config.get("method", "cyclegan"))
    return room(config, "cut" if method == "fastcut" else method)


def discriminator_weights(run: Run, side: str) -> int:
    """How many numbers the discriminator of domain "a" or "b" has in the newest state; 0 if there is none."""
    found = run.states()[-1:]
    try:
        with safe_open(found[0][1] / "state.safetensors", "np") as state:
            names = [name for name in state.keys() if name.startswith(f"method/disc_{side}.")]  # noqa: SIM118
            return sum(math.prod(state.get_slice(name).get_shape()) for name in names)
    except (OSError, LookupError, SafetensorError):
        return 0


def contract_of(domain: dict[Any, Any]) -> Contract:
    """The contract of a domain in data.json's content; 8 bits where it has none."""
    try:
        stored = domain.get("contract")
        found = Contract.from_dict(stored) if stored else Contract(channels=domain.get("channels", 3))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return Contract()
    return found if type(found.channels) is int else Contract()


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
