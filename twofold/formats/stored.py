"""An image as its file stores it, and its conversion to the type and the channels that a contract asks for."""

from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from twofold.formats.contract import Contract, Pixels
from twofold.formats.facts import Facts, ImageError
from twofold.formats.metadata import Metadata, is_srgb, srgb_profile

_LUMA = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601, which Pillow uses for uint8."""


class Stored(NamedTuple):
    """An image as its file stores it, upright."""

    pixels: Pixels
    """(H, W, C), of the type that `facts.dtype` names."""
    facts: Facts
    metadata: Metadata = Metadata()


def fit(stored: Stored, contract: Contract) -> Pixels:
    """The pixels with the type and the channels of a contract, (H, W, `contract.channels`).

    - Channels: 1, 3 and 4 with alpha are converted into each other: alpha is laid over white (the highest value of the
      type; 1 for floats), colour becomes luma. Other counts must match.
    - Deeper unsigned integers become uint8 by division (16 bits by 257), rounded.
    - uint8 becomes a deeper unsigned type by stretching 0..255 onto the range of the contract.
    - All other types keep their values, which must fit into the contract's type. So do label maps.
    - With `icc` "srgb", 8-bit pictures with another colour profile are converted to sRGB.

    Raises:
        ImageError: the channels differ, a value does not fit, or the scale of the values is unknown.
    """
    pixels = _to_srgb(stored) if contract.icc == "srgb" and _is_converted(stored) else stored.pixels
    pixels = _with_fewer_channels(pixels, contract.channels, stored.facts)
    return _with_more_channels(_with_type(pixels, stored.facts, contract), contract.channels, stored.facts)


# ---- channels


def _with_fewer_channels(pixels: Pixels, channels: int, facts: Facts) -> Pixels:
    """Alpha laid over white and colour as luma, where `channels` asks for it. The other counts are checked."""
    count = pixels.shape[2]
    if count == channels:
        return pixels
    if channels not in (1, 3, 4) or not (count in (1, 3) or (count == 4 and facts.alpha)):
        plural = "" if count == 1 else "s"
        raise ImageError(f"it has {count} channel{plural}, not {channels}; give files with {channels}")
    if count == 4:
        pixels = over_white(pixels, highest(pixels.dtype, facts.bits))
    return _luma(pixels) if channels == 1 else pixels


def _with_more_channels(pixels: Pixels, channels: int, facts: Facts) -> Pixels:
    """Grey as three equal channels, and an opaque alpha."""
    if pixels.shape[2] == 1 < channels:
        pixels = pixels.repeat(3, axis=2)
    if pixels.shape[2] == 3 < channels:
        bits = facts.bits if pixels.dtype == facts.dtype else pixels.itemsize * 8
        opaque = np.full_like(pixels[..., :1], highest(pixels.dtype, bits))
        pixels = np.concatenate([pixels, opaque], axis=2)
    return pixels


def highest(dtype: np.dtype[Any], bits: int) -> int:
    """White, and the alpha of what is opaque: the highest value of a type, of so many bits if unsigned; 1 for floats."""
    if dtype.kind == "f":
        return 1
    return 2**bits - 1 if dtype.kind == "u" else int(np.iinfo(dtype).max)


def over_white(pixels: Pixels, top: int) -> Pixels:
    """Colour with alpha, (H, W, 4), laid over white: (H, W, 3)."""
    if pixels.dtype == np.uint8:
        alpha = pixels[..., 3:].astype(np.uint16)
        return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    alpha = np.clip(pixels[..., 3:].astype(np.float64) / top, 0, 1)
    return _rounded(pixels[..., :3] * alpha + top * (1 - alpha), pixels.dtype)


def _luma(pixels: Pixels) -> Pixels:
    if pixels.shape[2] == 1:
        return pixels
    if pixels.dtype == np.uint8:
        return np.array(Image.fromarray(pixels).convert("L"))[..., None]
    return _rounded(pixels.astype(np.float64) @ _LUMA[:, None], pixels.dtype)


def _rounded(values: NDArray[np.float64], dtype: np.dtype[Any]) -> Pixels:
    return (values if dtype.kind == "f" else np.rint(values)).astype(dtype)


# ---- type


def _with_type(pixels: Pixels, facts: Facts, contract: Contract) -> Pixels:
    dtype = np.dtype(contract.dtype)
    if pixels.dtype == dtype:
        return pixels
    if dtype == np.uint8 and not contract.is_labels:
        return _to_uint8(pixels, facts.bits)
    if pixels.dtype == np.uint8 and dtype.kind == "u" and not contract.is_labels:
        low, high = np.array(contract.low), np.array(contract.high)
        return np.rint(low + pixels * ((high - low) / 255)).astype(dtype)
    return _with_same_values(pixels, dtype)


def _to_uint8(pixels: Pixels, bits: int) -> Pixels:
    """0..2^bits - 1, or 0..65,535 of types that could hold more, scaled to 0..255 and rounded."""
    if pixels.dtype.kind == "f":
        raise ImageError(
            f"it holds floating-point numbers ({pixels.dtype}), whose range is unknown; save it as 8 or 16 bits"
        )
    largest = 2 ** min(bits, 16) - 1 if pixels.dtype.kind == "u" else 65535
    if pixels.dtype == np.int8 or pixels.min() < 0 or pixels.max() > largest:
        raise ImageError(
            f"it has values outside 0 to {largest:,}, so their scale is unknown; save it as 8 or 16 bits"
        )
    return ((pixels.astype(np.uint32) * 510 + largest) // (2 * largest)).astype(np.uint8)


def _with_same_values(pixels: Pixels, dtype: np.dtype[Any]) -> Pixels:
    low, high = pixels.min().item(), pixels.max().item()
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            converted = pixels.astype(dtype)
        rounded = pixels.dtype.kind != "f" and not np.array_equal(converted, pixels)
        fits = not rounded and bool(np.isfinite(converted).all())
    else:
        limits = np.iinfo(dtype)
        fits = limits.min <= low and high <= limits.max
        converted = pixels.astype(dtype) if fits else pixels
        fits = fits and bool((converted == pixels).all())
    if not fits:
        raise ImageError(
            f"it holds {pixels.dtype} values from {low:g} to {high:g}, which are not all values of {dtype}; convert it to"
            f" {dtype} first"
        )
    return converted


# ---- colour profile


def metadata_of_fitted(stored: Stored, contract: Contract) -> Metadata:
    """The metadata for pixels that `fit` made: those that were converted to sRGB have its profile."""
    convert = contract.icc == "srgb" and _is_converted(stored)
    return stored.metadata._replace(icc=srgb_profile()) if convert else stored.metadata


def _is_converted(stored: Stored) -> bool:
    """Whether the picture has a profile and 8 bits. The profiles of deeper ones need to know what white is."""
    colours = stored.pixels.shape[2] - stored.facts.alpha
    are_indices = stored.facts.palette and colours == 1
    return (
        bool(stored.metadata.icc) and stored.facts.dtype == "uint8" and colours in (1, 3) and not are_indices
    )


def _to_srgb(stored: Stored) -> Pixels:
    """The pixels converted from the colour profile of the picture."""
    pixels, icc = stored.pixels, stored.metadata.icc
    colours = pixels.shape[2] - stored.facts.alpha
    is_grey = icc[16:20] == b"GRAY"
    try:
        if is_srgb(icc) or (colours == 1 and not is_grey):
            return pixels
        picture = Image.fromarray(pixels[..., 0] if is_grey else np.ascontiguousarray(pixels[..., :3]))
        profiles = (BytesIO(icc), BytesIO(srgb_profile()))
        converted = ImageCms.profileToProfile(picture, *profiles, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):  # a broken profile leaves a good picture
        return pixels
    return np.concatenate([np.asarray(converted)[..., :colours], pixels[..., colours:]], axis=2)
