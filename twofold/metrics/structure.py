"""How much of the source survives a translation, and whether a cycle hides the source in it. NumPy only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (Rec. 601)."""

STRUCTURE_SIDE = 3
"""The smallest side in pixels of an image whose gradient can be taken."""

UNCHANGED_LEVELS = 2.0
"""A mean change of the pixels below so many levels of 255 cannot be seen. The compression of a sample grid alone
changes pixels by 1.2 to 1.5 levels."""

HIDDEN, AMPLIFIED = 1.5, 2.0
"""A hidden signal: damage to the translation raises the cycle's error to this multiple, and by this multiple of the
damage itself. Healthy (`twofold demo`): 1.05 and 0.3 with noise, 1.1 and 0.25 with JPEG."""


def structure_kept(source: NDArray[Any], output: NDArray[Any]) -> tuple[float, float]:
    """(luminance correlation, edge correlation) of a translation with its source, both (H, W, C), each -1 to 1.

    The edge correlation is that of the gradient's length, so it does not matter which side of an edge is brighter.
    """
    x, y = luminance(source), luminance(output)
    return correlation(x, y), correlation(edges(x), edges(y))


def luminance(image: NDArray[Any]) -> Float:
    """(..., C) to (...): luma of 3 channels, or of 4 with alpha; the mean of any other number."""
    weights = np.array(LUMA) if image.shape[-1] in (3, 4) else np.full(image.shape[-1], 1 / image.shape[-1])
    return image[..., : len(weights)].astype(np.float64) @ weights


def correlation(x: Float, y: Float) -> float:
    """Pearson's correlation of two arrays of one shape, -1 to 1; 0 where one is constant."""
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt(np.square(x).sum() * np.square(y).sum())
    return float((x * y).sum() / scale) if scale > 1e-6 else 0.0


def edges(luma: Float) -> Float:
    """The length of Sobel's gradient at each inner pixel: (H, W) to (H - 2, W - 2)."""
    across, down = luma[:, 2:] - luma[:, :-2], luma[2:] - luma[:-2]
    return np.hypot(
        across[:-2] + 2 * across[1:-1] + across[2:], down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
    )


def hides_source(clean: float, damaged: float, damage: float) -> bool:
    """Whether a cycle reads the source from a signal too faint to see (Chu et al. 2017, arXiv 1712.02950).

    Args:
        clean: the cycle's mean absolute error.
        damaged: the same after the translation took some faint damage.
        damage: the mean absolute change of the translation. All three in one unit.
    """
    return damaged > max(HIDDEN * clean, clean + AMPLIFIED * damage)
