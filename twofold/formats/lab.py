"""sRGB <-> CIE Lab (white D65, 2° observer), both as uint8.

Lab as uint8 is (L · 255/100, a + 128, b + 128), rounded: every sRGB colour fits, since a runs from -86.2 to 98.2 and
b from -107.9 to 94.5.
"""

import numpy as np

from twofold.formats.values import Uint8

_TO_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
"""IEC 61966-2-1, linear sRGB to XYZ."""

_WHITE = np.array([0.95047, 1.0, 1.08883])

_LINEAR = np.arange(256) / 255
_LINEAR = np.where(_LINEAR > 0.04045, ((_LINEAR + 0.055) / 1.055) ** 2.4, _LINEAR / 12.92)
"""The light of each of the 256 stored levels."""

_SCALE, _SHIFT = np.array([2.55, 1, 1], np.float32), np.array([0, 128, 128], np.float32)

_FORWARD = (_TO_XYZ / _WHITE[:, None]).T.astype(np.float32)
_BACKWARD = np.linalg.inv(_TO_XYZ / _WHITE[:, None]).T.astype(np.float32)


STRIP = 2**20
"""Pixels converted at a time, which bounds the memory that large images take."""


def to_lab(image: Uint8) -> Uint8:
    """(H, W, 3) sRGB to (H, W, 3) Lab."""
    return np.concatenate([_to_lab(strip) for strip in _strips(image)])


def from_lab(lab: Uint8) -> Uint8:
    """(H, W, 3) Lab to (H, W, 3) sRGB; colours outside sRGB are clipped in each channel."""
    return np.concatenate([_from_lab(strip) for strip in _strips(lab)])


def _strips(image: Uint8) -> list[Uint8]:
    rows = max(1, STRIP // image.shape[1])
    return [image[top : top + rows] for top in range(0, len(image), rows)]


def _to_lab(image: Uint8) -> Uint8:
    xyz = _LINEAR.astype(np.float32)[image] @ _FORWARD  # relative to white
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)
    return (lab * _SCALE + _SHIFT).round().clip(0, 255).astype(np.uint8)


def _from_lab(lab: Uint8) -> Uint8:
    light, a, b = np.moveaxis((lab - _SHIFT) / _SCALE, -1, 0)
    y = (light + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, (116 * f - 16) * 27 / 24389)
    linear = (xyz @ _BACKWARD).clip(0, 1)
    srgb = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return (srgb * 255).round().astype(np.uint8)
