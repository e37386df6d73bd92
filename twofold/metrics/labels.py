"""Label maps as answers: which class each pixel of a translation shows, and how often that class is right."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from twofold.formats.contract import Labels, Pixels
from twofold.formats.values import Uint8, class_of

Counts = NDArray[np.int64]

MAX_CLASSES = 256
"""With at most so many colours, label maps were stored without loss, and each colour is a class."""

NEAR = 48
"""With more (JPEG): colours this near to a commoner one, in levels of 255, belong to that one."""

RARE, FLAT = 1e-3, 6
"""A class then fills at least this share of the flat parts, where neighbours differ by at most so many levels; the
blended colours of edges do not count."""

ALIKE, CLEAR = 16, 0.8
"""Classes stand out if this share of the flat parts is within so many levels of their colours."""


def to_rgb(image: Uint8) -> Uint8:
    """(H, W, C) as (H, W, 3): grey is repeated; of four or more channels the first three are taken."""
    return image[..., :3] if image.shape[2] >= 3 else image[..., :1].repeat(3, 2)


def clear_colours(colours: Uint8, flat: NDArray[Any], total: float) -> Uint8 | None:
    """The few colours (K, 3) that fill the flat parts, commonest first; None if no few do, as in photographs.

    Args:
        colours: (N, 3), each once.
        flat: how many pixels (N,) of each lie in flat parts. total: how many pixels do, of other colours too.
    """
    order = np.argsort(-flat, kind="stable")
    colours, shares = colours[order], flat[order] / max(1, total)
    chosen = separate_colours(colours, shares)
    if not 2 <= len(chosen) <= MAX_CLASSES:
        return None
    like_one = np.any([squared_distance(colours, colour) <= ALIKE**2 for colour in chosen], axis=0)
    return chosen if shares[like_one].sum() >= CLEAR else None


def packed(image: Uint8) -> NDArray[np.uint32]:
    """Each pixel of (H, W, 3) as one number, (H·W,)."""
    red, green, blue = image.reshape(-1, 3).T.astype(np.uint32)
    return (red << 16 | green << 8 | blue).astype(np.uint32)


def unpacked(colours: NDArray[np.uint32]) -> Uint8:
    return np.stack([colours >> 16, colours >> 8 & 255, colours & 255], -1).astype(np.uint8)


def hexadecimal(colour: Sequence[int]) -> str:
    """A colour as "#ff0080"."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def flat_parts(image: Pixels, within: int = FLAT) -> NDArray[np.bool_]:
    """Where (H, W) a pixel is within so many levels of all four neighbours."""
    padded = np.pad(image.astype(np.int32), [(1, 1), (1, 1), (0, 0)], "edge")
    middle = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.all([(np.abs(middle - each) <= within).all(-1) for each in neighbours], axis=0)


def separate_colours(colours: Uint8, shares: NDArray[np.float64]) -> Uint8:
    """The commonest colour, then the commonest of those not near it, and so on until they are rare."""
    chosen = []
    while len(colours) and len(chosen) <= MAX_CLASSES:
        near = squared_distance(colours, colours[0]) <= NEAR**2
        if shares[near].sum() < RARE:
            break
        chosen.append(colours[0])
        colours, shares = colours[~near], shares[~near]
    return np.array(chosen, np.uint8).reshape(-1, 3)


def squared_distance(image: Uint8, colour: Uint8) -> NDArray[np.int32]:
    """Squared Euclidean distance of each pixel (..., 3) to a colour."""
    red, green, blue = (image[..., c].astype(np.int32) - int(colour[c]) for c in range(3))
    return red * red + green * green + blue * blue


def classes_of(image: Pixels, known: Labels) -> Counts:
    """The class (H, W) of each pixel of (H, W, C): that of its id, -1 for an id that is none; of the nearest colour."""
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    classes = class_of(planes, known).numpy()
    return (
        classes if known.ids is None else np.where(np.array(known.ids)[classes] == image[..., 0], classes, -1)
    )


def confusion(truth: Counts, found: Counts, classes: int) -> Counts:
    """(classes, classes): how many pixels of class i of the truth were given class j; pixels of -1 are left out."""
    known = (truth >= 0) & (found >= 0)
    pairs = truth[known] * classes + found[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def label_score(matrix: Counts) -> tuple[float, float, float]:
    """The three parts of the FCN score (Long et al. 2015, §5), 0 to 1, of a confusion matrix or the sum of several.

    The share of pixels with the right label; the share of a class's pixels found, as a mean over the classes of the
    truth; intersection over union, as a mean over all classes present.
    """
    accuracy, iou = per_class(matrix)
    right = np.diag(matrix).sum() / matrix.sum()
    return float(right), float(np.nanmean(accuracy)), float(np.nanmean(iou))


def per_class(matrix: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy and IoU (K,) of each class; NaN where the class is absent."""
    right, true, made = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore"):
        return right / true, right / (true + made - right)


def commonest_label(matrices: Counts) -> Counts:
    """The confusion matrices (N, K, K) of answers that hold only the truth's commonest class: the floor."""
    floors = np.zeros_like(matrices)
    floors[:, :, matrices.sum((0, 2)).argmax()] = matrices.sum(2)
    return floors
