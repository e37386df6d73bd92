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
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from twofold.errors import TwofoldError, UsageError

SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".npy"])
"""What counts as a picture in a folder, in lower case; other files are ignored."""

MAX_PIXELS = 2**28
"""More pixels than this (16,384 x 16,384) are taken for a decompression bomb."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "GIF")
"""What a picture may turn out to be, whatever its name says. Pillow's rarer decoders stay closed."""

_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_ENCODERS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": "4:4:4"},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": "4:4:4"},
    ".webp": {"format": "WEBP", "quality": 90},
}


class ImageError(TwofoldError):
    """One file that cannot be read or written as a picture; the message names it."""


class Facts(NamedTuple):
    """What a file's header says."""

    width: int
    """Pixels, after the EXIF rotation."""
    height: int
    channels: int
    """As `read` without `channels` would return: 1, 3, 4, or any number in a `.npy` file."""
    grey: bool
    """No colour is stored; True also of grey with alpha."""
    sixteen_bit: bool
    frames: int


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
        ImageError: not a picture, damaged, over `MAX_PIXELS`, or of a type that has no plain 8-bit reading.
    """
    path = Path(path)
    with _named_errors(path):
        if path.suffix.lower() == ".npy":
            return _fit_array(_open_array(path), channels)
        with _LENIENT, Image.open(path, formats=_FORMATS) as picture:
            return from_picture(picture, channels)


def from_picture(picture: Image.Image, channels: int | None = None) -> NDArray[np.uint8]:
    """The pixels of a PIL picture, as `read` gives those of a file."""
    _check_size(*picture.size)
    return _convert(_pixels(picture), channels)


def inspect(path: Path | str) -> Facts:
    """Size, channels, depth and frames of a picture, from its header alone.

    Raises:
        ImageError: the header cannot be read. A file that passes may still turn out damaged in `read`.
    """
    path = Path(path)
    with _named_errors(path):
        if path.suffix.lower() == ".npy":
            height, width, count = _open_array(path).shape
            return Facts(width, height, count, count == 1, False, 1)
        with _LENIENT, Image.open(path, formats=_FORMATS) as picture:
            _check_size(*picture.size)
            return _facts(picture)


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


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"it is {width} x {height} pixels, which is nothing; remove it")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{width:,} x {height:,} pixels are over the limit of {MAX_PIXELS:,} (a decompression bomb?); "
            "make it smaller or cut it into tiles"
        )


def _pixels(picture: Image.Image) -> NDArray[np.uint8]:
    twelve_bit = _raw_modes(picture) == "I;12"  # known only before loading
    picture.load()
    turn = _TRANSPOSE.get(_orientation(picture))
    if turn is not None:
        picture = picture.transpose(turn)
    if picture.mode == "F":
        raise ImageError("it holds floating-point numbers, whose range is unknown; save it as 8 or 16 bits")
    if picture.mode.startswith("I"):
        return _from_integers(np.array(picture), 4095 if twelve_bit else 65535)
    return np.atleast_3d(np.array(picture.convert(_stored_mode(picture))))


def _from_integers(values: NDArray[Any], most: int) -> NDArray[np.uint8]:
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > most:
        raise ImageError(
            f"its values leave 0 to {most:,}, so their scale is unknown; save it as 8 or 16 bits"
        )
    return ((wide * 510 + most) // (2 * most)).astype(np.uint8)[..., None]


def _stored_mode(picture: Image.Image) -> str:
    if picture.has_transparency_data:
        return "RGBA"
    return "L" if picture.mode in ("1", "L") else "RGB"


def _facts(picture: Image.Image) -> Facts:
    width, height = picture.size
    # Pillow's size of a TIFF is already the rotated one.
    if picture.format != "TIFF" and _orientation(picture) >= 5:
        width, height = height, width
    grey = picture.mode in ("1", "L", "LA", "La", "F") or picture.mode.startswith("I")
    alpha = picture.has_transparency_data and not picture.mode.startswith("I")
    return Facts(
        width,
        height,
        channels=4 if alpha else 1 if grey else 3,
        grey=grey,
        sixteen_bit=picture.mode.startswith("I") or ";16" in _raw_modes(picture),
        frames=getattr(picture, "n_frames", 1),
    )


def _orientation(picture: Image.Image) -> int:
    if picture.format == "PNG" and not {"exif", "Raw profile type exif", "xmp"} & picture.info.keys():
        return 1  # asking further would decode the whole file, in search of a chunk after the pixels
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF, of which cameras write many kinds, leaves a good picture
        return 1


def _raw_modes(picture: Image.Image) -> str:
    args = [tile[3] for tile in getattr(picture, "tile", [])]
    return " ".join(str(arg[0] if isinstance(arg, tuple) else arg) for arg in args[:4])


def _convert(image: NDArray[np.uint8], channels: int | None) -> NDArray[np.uint8]:
    """Any of 1, 3, 4 channels to `channels`, which may be None: as it is."""
    if channels is None or channels == image.shape[2]:
        return image
    if channels not in (1, 3, 4):
        raise ImageError(
            f"it has {image.shape[2]} channels, {channels} are asked for; only .npy files have those"
        )
    if image.shape[2] == 4:
        image = _over_white(image)
    if image.shape[2] == 1:
        image = image.repeat(3, axis=2)
    if channels == 1:
        return np.array(Image.fromarray(image).convert("L"))[..., None]
    if channels == 4:
        return np.concatenate([image, np.full_like(image[..., :1], 255)], axis=2)
    return image


def _over_white(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = image[..., 3:].astype(np.uint16)
    return ((image[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _open_array(path: Path) -> NDArray[np.uint8]:
    """The array of a `.npy` file as (H, W, C), not yet read from the disk."""
    if path.stat().st_size == 0:
        raise ImageError("the file is empty; remove it or replace it")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ImageError("it is an archive of arrays; save one uint8 array (H, W, C) with np.save")
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        shape = " x ".join(map(str, array.shape))
        raise ImageError(f"it holds {array.dtype} of shape {shape or 'none'}; save uint8 (H, W, C) or (H, W)")
    if array.ndim == 2:
        array = array[..., None]
    if array.shape[2] == 0:
        raise ImageError("it has no channels; remove it")
    _check_size(array.shape[1], array.shape[0])
    return array


def _fit_array(array: NDArray[np.uint8], channels: int | None) -> NDArray[np.uint8]:
    image = np.array(array, order="C")
    if channels is None or channels == image.shape[2]:
        return image
    if image.shape[2] == 1 and channels == 3:
        return image.repeat(3, axis=2)
    raise ImageError(
        f"it has {image.shape[2]} channels, {channels} are asked for; .npy files are not converted"
    )


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
