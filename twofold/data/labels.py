"""Label maps: the classes of a training set, and whether images that were not called label maps look like some."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from twofold.errors import UsageError
from twofold.formats.contract import Contract, Labels, Pixels
from twofold.metrics import labels as maps
from twofold.metrics.labels import MAX_CLASSES, flat_parts, packed, to_rgb

Value = tuple[int, ...]
"""The value of a class: one id, or the parts of a colour."""


class Seen(NamedTuple):
    """The values in one label map.

    Attributes:
        distinct: how many there are.
        clear: how many pixels can be trusted: all in a file of few values, else those in flat parts.
        values: all of them in ascending order; of more than `MAX_CLASSES`, those with the most clear pixels.
        counts: how many clear pixels each has.
    """

    distinct: int
    clear: int
    values: tuple[Value, ...]
    counts: tuple[int, ...]


def look_at(pixels: Pixels, name: str) -> Seen:
    """The values of a label map (H, W, 1 or 3), as they are stored. Plain numbers, for JSON.

    Args:
        name: of the file. In JPEG files blended values lie along the edges, however few values there are.

    Raises:
        UsageError: the pixels are not whole numbers, or have another number of channels.
    """
    if pixels.dtype.kind not in "iu":
        raise UsageError(f"{pixels.dtype} values are not classes; store class ids as whole numbers")
    if pixels.shape[2] not in (1, 3):
        raise UsageError(f"{pixels.shape[2]} channels are not classes; store class ids, or RGB colours")
    numbers = pixels.ravel() if pixels.shape[2] == 1 else packed(pixels)
    starts = np.flatnonzero(np.concatenate([[True], numbers[1:] != numbers[:-1]]))  # of runs of one value
    values, places = np.unique(numbers[starts], return_inverse=True)
    if len(values) > MAX_CLASSES or is_lossy(name):
        clear = np.add.reduceat(flat_parts(pixels).ravel().astype(np.int64), starts)
    else:
        clear = np.diff(starts, append=len(numbers))
    counts = np.bincount(places, clear).astype(np.int64)
    kept = np.sort(np.argsort(-counts, kind="stable")[:MAX_CLASSES])
    rows = values[kept, None] if pixels.shape[2] == 1 else maps.unpacked(values[kept])
    return Seen(len(values), int(clear.sum()), tuple(map(tuple, rows.tolist())), tuple(counts[kept].tolist()))


def is_lossy(name: str) -> bool:
    """Whether a file's format changes the values of label maps."""
    return name.lower().endswith((".jpg", ".jpeg", ".jfif"))


def from_json(row: Sequence[Any]) -> Seen:
    """What JSON made of a `Seen`."""
    distinct, clear, values, counts = row
    return Seen(distinct, clear, tuple(map(tuple, values)), tuple(counts))


def find_classes(domain: str, seen: Mapping[str, Seen]) -> tuple[Value, ...]:
    """The values of the classes of a training set, in ascending order.

    They are all values that occur. In a set of JPEG files, or with more than `MAX_CLASSES`, they are the few values
    that fill the flat parts.

    Raises:
        UsageError: these are not label maps; says which file, and how many values it has.
    """
    union = sorted({value for each in seen.values() for value in each.values})
    exact = all(each.distinct <= MAX_CLASSES for each in seen.values()) and len(union) <= MAX_CLASSES
    if not exact or any(map(is_lossy, seen)):
        union = _clear_values(domain, seen)
    if len(union) < 2:
        only = " ".join(map(str, union[0])) if union else "none"
        raise UsageError(
            f"{domain}: all label maps hold one value alone, {only}; give label maps of 2 classes or more"
        )
    return tuple(union)


def _clear_values(domain: str, seen: Mapping[str, Seen]) -> list[Value]:
    counts: Counter[Value] = Counter()
    for each in seen.values():
        counts.update(dict(zip(each.values, each.counts, strict=True)))
    if max(max(value) for value in counts) > 255:
        raise _not_labels(domain, seen)
    rows = np.array(list(counts), np.uint8)
    clear, total = np.array(list(counts.values())), sum(each.clear for each in seen.values())
    chosen = maps.clear_colours(to_rgb(rows[None])[0], clear, total)
    if chosen is None:
        raise _not_labels(domain, seen)
    return sorted(tuple(row) for row in chosen[:, : rows.shape[1]].tolist())


def _not_labels(domain: str, seen: Mapping[str, Seen]) -> UsageError:
    worst = max(seen, key=lambda name: seen[name].distinct)
    many = len({value for each in seen.values() for value in each.values})
    count = seen[worst].distinct
    together = f", all files together {many:,}" if many > MAX_CLASSES >= count else ""
    return UsageError(
        f"{domain}: {worst} has {count:,} different values{together}, and no few of them stand out: not a label map"
        f" of 2 to {MAX_CLASSES} classes; leave out --labels-{domain.lower()}, or store the label maps as PNG"
    )


def held_out_only(seen: Mapping[str, Seen], labels: Labels) -> dict[str, list[int]]:
    """The ids of held-out label maps that no class has, by file; they count as the nearest class."""
    known = set(labels.values)
    unknown = {
        name: sorted(v for v, *rest in set(each.values) - known if not rest) for name, each in seen.items()
    }
    return {name: ids for name, ids in unknown.items() if ids}


def sentence(contract: Contract, labels: Labels) -> str:
    """One line: "uint8, label maps of 19 classes: 0, 1, 2, … 18"."""
    onehot = ", a channel for each in the network" if labels.onehot else ""
    return f"{contract.dtype}, label maps of {in_words(labels)}{onehot}"


def in_words(labels: Labels) -> str:
    """The classes: "19 classes: 0, 1, 2, … 18"."""
    values = [str(each[0]) if len(each) == 1 else maps.hexadecimal(each) for each in labels.values]
    listed = ", ".join(values if len(values) <= 8 else [*values[:3], f"… {values[-1]}"])
    return f"{len(values)} classes: {listed}"


# ---- a suggestion for `data check`

MOST_COLOURS, FLAT_SHARE = 64, 0.5
"""Label maps have 3 to this many colours, and more than this share of their pixels is like all four neighbours."""


def look_like_labels(samples: Iterable[Pixels]) -> bool:
    """Whether each image (H, W, C), of some from one set, has few colours in flat regions, as a label map has.

    Images of one colour do not count. Black and white alone may be anything, and so say nothing.
    """
    every: set[int] = set()
    for sample in samples:
        if sample.dtype.kind not in "iu" or sample.shape[2] > 4 or sample.min() < 0 or sample.max() > 255:
            return False
        image = to_rgb(sample.astype(np.uint8))
        numbers = packed(image)
        if len(np.unique(numbers[:1024])) > MOST_COLOURS:  # most photographs show it in their first pixels
            return False
        colours = np.unique(numbers)
        if len(colours) == 1:
            continue
        every.update(colours.tolist())
        if len(every) > MOST_COLOURS or flat_parts(image, 0).mean() <= FLAT_SHARE:
            return False
    return len(every) >= 3
