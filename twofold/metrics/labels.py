"""Label maps as answers: which class each pixel of a translation shows, and how often that is the right one."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.errors import UsageError

Uint8 = NDArray[np.uint8]
Counts = NDArray[np.int64]

MOST = 256
"""With at most so many colours, label maps were stored without loss, and each colour is a class."""

NEAR = 48
"""Where they were not: colours this near to a commoner one, in levels of 255, are that one, blurred."""

RARE, FLAT = 1e-3, 6
"""And a class fills this share of the flat parts, where neighbours differ by few levels: blended edges do not count."""


class LabelScore(NamedTuple):
    """How well labels agree with the truth, 0 to 1 (Long et al. 2015, §5: the three of the FCN score)."""

    pixels: float  # share of pixels with the right label
    classes: float  # mean over the classes of the truth: share of their pixels found
    iou: float  # mean over all classes seen: intersection over union


def palette_of(truths: Iterable[Uint8]) -> Uint8:
    """The colours (K, 3) that stand for classes in label maps (H, W, 3), commonest first.

    Raises:
        UsageError: these are photographs: no colours stand out.
    """
    colours, counts, calm = np.zeros(0, np.uint32), np.zeros(0), np.zeros(0)
    for truth in truths:
        colours, places = np.unique(np.concatenate([colours, packed(truth)]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([counts, np.ones(truth.shape[0] * truth.shape[1])]))
        calm = np.bincount(places, np.concatenate([calm, flat(truth).ravel()]))
    if len(colours) <= MOST:
        return unpacked(colours[np.argsort(-counts, kind="stable")])
    order = np.argsort(-calm, kind="stable")
    chosen = standing_out(unpacked(colours[order]), calm[order] / max(1, calm.sum()))
    if not 2 <= len(chosen) <= MOST:
        raise UsageError(
            f"no colours stand out among {len(colours):,}: are they label maps? if so, give --labels a file of them"
        )
    return chosen


def packed(image: Uint8) -> NDArray[np.uint32]:
    """Each pixel of (H, W, 3) as one number."""
    red, green, blue = (image[..., c].ravel().astype(np.uint32) for c in range(3))
    return (red << 16 | green << 8 | blue).astype(np.uint32)


def unpacked(colours: NDArray[np.uint32]) -> Uint8:
    return np.stack([colours >> 16, colours >> 8 & 255, colours & 255], -1).astype(np.uint8)


def flat(image: Uint8) -> NDArray[np.bool_]:
    """Where (H, W) a pixel is within `FLAT` levels of all four neighbours."""
    levels, calm = image.astype(np.int16), np.ones(image.shape[:2], bool)
    for axis in (0, 1):
        same = (np.abs(np.diff(levels, axis=axis)) <= FLAT).all(-1)
        edge = [(0, 0), (0, 0)]
        for side in (0, 1):
            edge[axis] = (1 - side, side)
            calm &= np.pad(same, edge, constant_values=True)
    return calm


def standing_out(colours: Uint8, shares: NDArray[np.float64]) -> Uint8:
    """The commonest colour, then the commonest of those that are not near it, and so on down to rare ones."""
    chosen = []
    while len(colours) and len(chosen) <= MOST:
        near = squared(colours, colours[0]) <= NEAR**2
        if shares[near].sum() < RARE:
            break
        chosen.append(colours[0])
        colours, shares = colours[~near], shares[~near]
    return np.array(chosen, np.uint8).reshape(-1, 3)


def squared(image: Uint8, colour: Uint8) -> NDArray[np.int32]:
    """Squared Euclidean distance of each pixel (..., 3) to a colour."""
    red, green, blue = (image[..., c].astype(np.int32) - int(colour[c]) for c in range(3))
    return red * red + green * green + blue * blue


def read_palette(path: Path) -> tuple[Uint8, list[str]]:
    """The colours and names of classes in a text file, a line each: `255 85 0 door`; # begins a comment.

    Raises:
        UsageError: it cannot be read, or a line is none of these.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the palette {path}: {error}") from error
    colours, names = [], []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].replace(",", " ").split()
        if not words:
            continue
        if len(words) < 3 or not all(word.isdecimal() and int(word) <= 255 for word in words[:3]):
            raise UsageError(
                f"{path}, line {number}: a class is written as `RED GREEN BLUE NAME`, each 0 to 255"
            )
        colours.append([int(word) for word in words[:3]])
        names.append(" ".join(words[3:]) or str(len(names)))
    if not colours:
        raise UsageError(f"{path} names no class; a line reads `RED GREEN BLUE NAME`")
    return np.array(colours, np.uint8), names


def colours(image: Uint8) -> Uint8:
    """(H, W, C) as (H, W, 3): grey is repeated, of four channels and more the first three are taken."""
    return image[..., :3] if image.shape[2] >= 3 else image[..., :1].repeat(3, 2)


def labels_of(image: Uint8, palette: Uint8) -> Counts:
    """The class (H, W) of each pixel of (H, W, 3): the nearest colour, the first of equally near ones."""
    least, labels = squared(image, palette[0]), np.zeros(image.shape[:2], np.int64)
    for label, colour in enumerate(palette[1:], 1):
        distance = squared(image, colour)
        nearer = distance < least
        labels[nearer], least[nearer] = label, distance[nearer]
    return labels


def confusion(truth: Counts, found: Counts, classes: int) -> Counts:
    """(classes, classes): how many pixels of class i of the truth were found to be class j.

    Pixels outside the classes in the truth (an "ignore" label) do not count.
    """
    counted = (truth >= 0) & (truth < classes)
    pairs = truth[counted] * classes + found[counted].clip(0, classes - 1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def scored(matrix: Counts) -> LabelScore:
    """The figures of a confusion matrix, or of the sum of several."""
    right, true, made = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    union = true + made - right
    return LabelScore(
        float(right.sum() / matrix.sum()),
        float(np.mean(right[true > 0] / true[true > 0])),
        float(np.mean(right[union > 0] / union[union > 0])),
    )


def per_class(matrix: Counts) -> list[tuple[float, float]]:
    """(accuracy, IoU) of each class; not a number where the truth has none of it."""
    with np.errstate(invalid="ignore", divide="ignore"):
        right, true, made = np.diag(matrix), matrix.sum(1), matrix.sum(0)
        return list(zip((right / true).tolist(), (right / (true + made - right)).tolist(), strict=True))


def commonest(matrix: Counts) -> Counts:
    """The confusion matrix of an answer that is the truth's commonest class everywhere: the floor."""
    floor, true = np.zeros_like(matrix), matrix.sum(1)
    floor[:, true.argmax()] = true
    return floor


def compare(outputs: Sequence[Uint8], truths: Sequence[Uint8], palette: Uint8) -> Counts:
    """The confusion matrices (N, K, K) of translations (H, W, 3) against true label maps, pairwise."""
    return np.stack(
        [
            confusion(labels_of(truth, palette), labels_of(output, palette), len(palette))
            for output, truth in zip(outputs, truths, strict=True)
        ]
    )
