"""Picture files in and out: decode, encode, resize, and uint8 <-> [-1, 1].

A picture is a uint8 array (H, W, C) everywhere: C is 1 (grey), 3 (red, green, blue) or 4 (with alpha) in the
formats that Pillow reads, and any number in a `.npy` file.
"""

import os
import re
import secrets
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from twofold.errors import UsageError
from twofold.formats.decoding import (
    Facts,
    ImageError,
    check_size,
    convert,
    facts,
    fit_array,
    open_array,
    pixels,
)

SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".npy"])
"""What counts as a picture in a folder, in lower case; other files are ignored."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "GIF")
"""What a picture may turn out to be, whatever its name says. Pillow's rarer decoders stay closed."""

_ENCODERS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": "4:4:4"},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": "4:4:4"},
    ".webp": {"format": "WEBP", "quality": 90},
}


# ---- finding


def find(folder: Path | str) -> list[Path]:
    """Every picture below `folder`, in natural order of its relative name (2 before 10).

    Hidden files and folders are skipped; symbolic links are followed, each folder once.

    Raises:
        UsageError: `folder` is missing, not a folder, unreadable, or holds no picture.
    """
    root = Path(folder)
    if not root.exists():
        raise UsageError(f"{root} does not exist; give a folder of images")
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder; give a folder of images")
    files = [path for path in _walk(root) if path.is_file()]
    found = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not found:
        seen = f"{len(files):,} other file{'' if len(files) == 1 else 's'}"
        raise UsageError(f"{root} holds no images ({seen}); known are {' '.join(sorted(SUFFIXES))}")
    return sorted(found, key=lambda path: _natural(path.relative_to(root).as_posix()))


def _walk(root: Path) -> Iterator[Path]:
    visited: set[str] = set()
    for here, folders, names in os.walk(root, onerror=_refuse_unreadable, followlinks=True):
        real = os.path.realpath(here)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(here, name) for name in names if not name.startswith("."))


def _refuse_unreadable(error: OSError) -> None:
    raise UsageError(f"cannot read the folder {error.filename}: {error.strerror}; check its permissions")


def _natural(name: str) -> tuple[list[str | int], str]:
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


# ---- reading


def read(path: Path | str, channels: int | None = None) -> NDArray[np.uint8]:
    """The picture in a file, upright, as (H, W, C).

    Animations give their first frame. 16-bit grey (also stored as 32-bit integers) is divided by 257 and
    rounded; of 16-bit colour Pillow keeps the high byte, at most one level off.

    Args:
        channels: 1, 3 or 4 converts (alpha is laid over white when it has to go; grey is the luma of
            Rec. 601); None keeps what is stored. A `.npy` file must have exactly this many, except that 1
            repeats to 3.

    Raises:
        ImageError: not a picture, damaged, over `decoding.MAX_PIXELS`, or of a type that has no plain 8-bit reading.
    """
    path = Path(path)
    with _named_errors(path):
        if path.suffix.lower() == ".npy":
            return fit_array(open_array(path), channels)
        with _LENIENT, Image.open(path, formats=_FORMATS) as picture:
            return from_picture(picture, channels)


def from_picture(picture: Image.Image, channels: int | None = None) -> NDArray[np.uint8]:
    """The pixels of a PIL picture, as `read` gives those of a file."""
    check_size(*picture.size)
    return convert(pixels(picture), channels)


def inspect(path: Path | str) -> Facts:
    """Size, channels, depth and frames of a picture, from its header alone.

    Raises:
        ImageError: the header cannot be read. A file that passes may still turn out damaged in `read`.
    """
    path = Path(path)
    with _named_errors(path):
        if path.suffix.lower() == ".npy":
            height, width, count = open_array(path).shape
            return Facts(width, height, count, count == 1, False, 1)
        with _LENIENT, Image.open(path, formats=_FORMATS) as picture:
            check_size(*picture.size)
            return facts(picture)


class _Lenient:
    """Pillow without its pixel limit and its warnings, for as long as any thread is inside.

    Both are settings of the whole process, so the last thread out puts them back. `warnings.catch_warnings`
    is no help: interleaved with another thread's, it restores the wrong list.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.limit: int | None = None
        self.filter: Any = None

    def __enter__(self) -> None:
        with self.lock:
            if self.inside == 0:
                self.limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
                warnings.filterwarnings("ignore", module=r"PIL\.")
                self.filter = warnings.filters[0]
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                Image.MAX_IMAGE_PIXELS = self.limit
                if self.filter in warnings.filters:
                    warnings.filters.remove(self.filter)  # pyright: ignore[reportAttributeAccessIssue]


_LENIENT = _Lenient()


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except Image.UnidentifiedImageError:
        raise ImageError(f"{path}: not an image, whatever its name says; remove it or replace it") from None
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ImageError(f"{path}: {error.strerror}") from None
    except MemoryError:
        raise ImageError(f"{path}: too large for this machine's memory; make it smaller") from None
    except Exception as error:  # decoders raise nearly anything on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path}: damaged ({reason}); remove it or replace it") from error


# ---- resizing, writing


def resize(image: NDArray[np.uint8], height: int, width: int, nearest: bool = False) -> NDArray[np.uint8]:
    """Bicubic with antialias to (height, width, C), for any C; or `nearest`, which invents no colours.

    Bicubic goes over the width, then the height; each of the two passes equals Pillow's within one level.
    """
    if image.shape[:2] == (height, width):
        return image
    planes = torch.from_numpy(image).permute(2, 0, 1)  # (C, H, W)
    # Beyond 4 channels torch takes another path, which is wrong where the result is one pixel wide.
    batch = planes[None] if len(planes) <= 4 else planes[:, None]
    mode = "nearest-exact" if nearest else "bicubic"
    resized = torch.nn.functional.interpolate(batch, size=(height, width), mode=mode, antialias=not nearest)
    return resized.reshape(len(planes), height, width).permute(1, 2, 0).contiguous().numpy()


def write(image: NDArray[np.uint8], path: Path | str) -> None:
    """Save (H, W, C) in the format that the suffix names: png, jpg, webp, or npy for any number of channels.

    The file appears whole or not at all; folders above it are made.

    Raises:
        UsageError: the suffix is none of these, or its format cannot hold so many channels.
        ImageError: the disk or the encoder refuses.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        _write_aside(path, lambda file: np.save(file, image, allow_pickle=False))
        return
    if suffix not in _ENCODERS:
        raise UsageError(f"cannot write {path}: end its name with {', '.join(_ENCODERS)} or .npy")
    channels = image.shape[2]
    if channels not in ((1, 3) if suffix in (".jpg", ".jpeg") else (1, 3, 4)):
        better = ".png" if channels == 4 else ".npy"
        raise UsageError(f"cannot write {path}: {suffix} does not hold {channels} channels; use {better}")
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    _write_aside(path, lambda file: picture.save(file, **_ENCODERS[suffix]))


def _write_aside(path: Path, save: Callable[[Any], None]) -> None:
    aside = path.with_name(f".{secrets.token_hex(6)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            save(file)
        aside.replace(path)
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        aside.unlink(missing_ok=True)


# ---- uint8 <-> [-1, 1]


def to_float(images: Tensor) -> Tensor:
    """uint8 0..255 to float32 -1..1, any shape: u / 127.5 - 1."""
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """float -1..1 to uint8 0..255, any shape: rounded, clamped; inverts `to_float` exactly."""
    return ((images.to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
