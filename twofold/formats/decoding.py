"""What a picture or an array holds: its size, its channels, and its pixels as uint8 (H, W, C).

Where it cannot be said, an `ImageError` tells why; `images` puts the file's name before it.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twofold.errors import TwofoldError

MAX_PIXELS = 2**28
"""More pixels than this (16,384 x 16,384) are taken for a decompression bomb."""

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


def check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"it is {width} x {height} pixels, which is nothing; remove it")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{width:,} x {height:,} pixels are over the limit of {MAX_PIXELS:,} (a decompression bomb?); "
            "make it smaller or cut it into tiles"
        )


def pixels(picture: Image.Image) -> NDArray[np.uint8]:
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


def facts(picture: Image.Image) -> Facts:
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


def convert(image: NDArray[np.uint8], channels: int | None) -> NDArray[np.uint8]:
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


def open_array(path: Path) -> NDArray[np.uint8]:
    """The array of a `.npy` file as (H, W, C), not yet read from the disk."""
    if path.stat().st_size == 0:
        raise ImageError("the file is empty; remove it or replace it")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise ImageError("it is an archive of arrays; save one uint8 array (H, W, C) with np.save")
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        shape = " x ".join(map(str, array.shape))
        raise ImageError(f"it holds {array.dtype} of shape {shape or 'none'}; save uint8 (H, W, C) or (H, W)")
    if array.ndim == 2:
        array = array[..., None]
    if array.shape[2] == 0:
        raise ImageError("it has no channels; remove it")
    check_size(array.shape[1], array.shape[0])
    return array


def fit_array(array: NDArray[np.uint8], channels: int | None) -> NDArray[np.uint8]:
    image = np.array(array, order="C")
    if channels is None or channels == image.shape[2]:
        return image
    if image.shape[2] == 1 and channels == 3:
        return image.repeat(3, axis=2)
    raise ImageError(
        f"it has {image.shape[2]} channels, {channels} are asked for; .npy files are not converted"
    )
