"""A first look at a folder: its image files, their headers, and the channels and labels that follow from them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from twofold.data.cache import THREADS
from twofold.data.geometry import LoadRule, Part, read_part
from twofold.data.manifest import File, Folder
from twofold.data.settings import DataSettings
from twofold.errors import UsageError
from twofold.formats import images
from twofold.formats.contract import Contract
from twofold.prefetch import prefetch

SAMPLED, MOST_COLOURS = 12, 64
"""How many files are searched for label maps, and how many colours a label map has at most."""


def scan(
    path: Path, files: Iterable[File] | None = None, part: Part = "whole", suffix: str = "", source: str = ""
) -> Folder:
    """A folder with these of its files (None: all), and what their headers say. The sizes of a half are its own.

    Raises:
        UsageError: the folder is missing, unreadable or holds no images.
    """
    root = path.expanduser().resolve()
    listed = list_files(root) if files is None else list(files)
    parts = 2 if part in ("left", "right") else 1
    facts = {}
    for i, found in enumerate(prefetch(_header, [root / file.name for file in listed], THREADS, depth=64)):
        if found:
            facts[listed[i].name] = found
            listed[i] = listed[i]._replace(width=found.width // parts, height=found.height)
    return Folder(root, tuple(listed), part, suffix, source, facts=facts)


def list_files(root: Path, suffix: str = "") -> list[File]:
    """Every image file below an absolute folder, with size and time, in natural order; of one suffix if given."""
    found = (path for path in images.find(root) if not suffix or path.suffix.lower() == suffix)
    return [stat_file(root, path.relative_to(root).as_posix()) for path in found]


def stat_file(root: Path, name: str) -> File:
    """A file by its name relative to `root`, with size and time."""
    stat = (root / name).stat()
    return File(name, stat.st_size, stat.st_mtime_ns)


def _header(path: Path) -> images.Facts | None:
    try:
        return images.inspect(path)
    except images.ImageError:
        return None


def choose_channels(label: str, folder: Folder, wanted: int | None) -> int:
    """The channels of a domain: as set, else 1 if every image is grey, N for `.npy` files, else 3.

    Raises:
        UsageError: the `.npy` files differ, or do not go together with the other files.
    """
    if folder.part in ("lightness", "colour"):
        return 1 if folder.part == "lightness" else 2
    if wanted is not None:
        return wanted
    arrays = {name: facts.channels for name, facts in folder.facts.items() if name.lower().endswith(".npy")}
    others_grey = all(facts.grey for name, facts in folder.facts.items() if name not in arrays)
    counts = set(arrays.values())
    if len(counts) > 1:
        few, many = (next(n for n, c in arrays.items() if c == count) for count in sorted(counts)[:2])
        raise UsageError(f"{label}: {few} and {many} differ in channels; give .npy files of one kind")
    if not counts or counts == {1}:
        return 1 if others_grey else 3
    count = counts.pop()
    if count not in (3, 4) and len(arrays) < len(folder.facts):
        raise UsageError(f"{label}: .npy files of {count} channels beside other images; use one kind")
    return count


def choose_labels(folder: Folder, wanted: bool | None) -> bool:
    """Whether a domain's images are label maps: as set, else if each sampled image has few colours.

    Few are 2 to 64, and less than one for 16 pixels. Files of one colour do not count.
    """
    if wanted is not None or folder.part in ("lightness", "colour"):
        return bool(wanted)
    step = max(1, len(folder.files) // SAMPLED)
    most = 1
    for file in folder.files[::step][:SAMPLED]:
        few = _colours(folder, file.name)
        if few is None:
            return False
        most = max(most, few)
    return most > 1


def _colours(folder: Folder, name: str) -> int | None:
    """The number of colours of an image, None for many; 1 for an image that cannot be read."""
    if name not in folder.facts:
        return 1
    try:
        rule = LoadRule(DataSettings(), Contract(channels=folder.facts[name].channels), 1, folder.part)
        image = read_part(folder.path / name, rule)
    except images.ImageError:
        return 1
    if image.shape[2] > 4:
        return None
    flat = image.reshape(-1, image.shape[2])
    flat = flat[:: len(flat) // 2**18 + 1] @ (256 ** np.arange(image.shape[2]))  # a colour as one number
    few = min(MOST_COLOURS, len(flat) // 16)
    if len(np.unique(flat[:1024])) > few:  # most photographs show it in their first pixels
        return None
    count = len(np.unique(flat))
    return count if count <= few else None
