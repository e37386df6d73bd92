"""A first look at a folder: the headers of its images, and what follows from them."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from twofold.data.cache import THREADS, Entry, Job, Listed, loaded_pixels
from twofold.data.dataset import LoadRule, Part, read
from twofold.data.prefetch import prefetch
from twofold.data.settings import DataSettings
from twofold.errors import UsageError
from twofold.formats import images


class Survey(NamedTuple):
    """What a folder's file list and headers say."""

    label: str
    """A or B, as messages call it."""
    folder: Path
    """Absolute, symbolic links resolved."""
    listed: list[Listed]
    facts: dict[str, images.Facts]
    """By name; files whose header cannot be read are missing. Sizes are those of the part that is the image."""
    part: Part = "whole"
    suffix: str = ""
    """Of several kinds of file in the folder only this one belongs here; empty: all."""
    source: str = ""
    """The file in the folder that lists the images; empty: the folder does."""

    def job(self, rule: LoadRule) -> Job:
        """The reading of the whole folder."""
        sizes = [(facts.width, facts.height) for facts in self.facts.values()]
        return Job(self.folder, self.listed, rule, loaded_pixels(sizes, rule))

    def having(self, test: Callable[[images.Facts], bool]) -> list[str]:
        """The names of the files whose facts pass a test."""
        return [name for name, facts in self.facts.items() if test(facts)]


def survey(label: str, folder: Path) -> Survey:
    """List a folder and read the headers.

    Raises:
        UsageError: the folder is missing, unreadable or holds no images.
    """
    root = folder.expanduser().resolve()
    listed = list_files(root)
    return Survey(label, root, listed, headers(root, listed))


def list_files(root: Path, suffix: str = "") -> list[Listed]:
    """Every image file below an absolute folder, with size and time, in natural order; maybe of one suffix alone."""
    found = (path for path in images.find(root) if not suffix or path.suffix.lower() == suffix)
    return [stat_file(root, path.relative_to(root).as_posix()) for path in found]


def stat_file(root: Path, name: str) -> Listed:
    stat = (root / name).stat()
    return Listed(name, stat.st_size, stat.st_mtime_ns)


def headers(root: Path, listed: Iterable[Listed]) -> dict[str, images.Facts]:
    """What the headers say, by name; files whose header cannot be read are missing."""
    names = [file.name for file in listed]
    facts = prefetch(_header, [root / name for name in names], THREADS, depth=64)
    return {name: found for name, found in zip(names, facts, strict=True) if found}


def _header(path: Path) -> images.Facts | None:
    try:
        return images.inspect(path)
    except images.ImageError:
        return None


def choose_channels(found: Survey, asked: int | None) -> int:
    """How many channels a domain has: as asked, else 1 where all is grey, N for `.npy` files, else 3.

    Raises:
        UsageError: the `.npy` files differ, or cannot stand beside the other files.
    """
    if found.part in ("lightness", "colour"):
        return 1 if found.part == "lightness" else 2
    if asked is not None:
        return asked
    arrays = {n: facts.channels for n, facts in found.facts.items() if n.lower().endswith(".npy")}
    others_grey = all(facts.grey for name, facts in found.facts.items() if name not in arrays)
    counts = set(arrays.values())
    if len(counts) > 1:
        few, many = (next(n for n, c in arrays.items() if c == count) for count in sorted(counts)[:2])
        raise UsageError(f"{found.label}: {few} and {many} differ in channels; give .npy files of one kind")
    if not counts or counts == {1}:
        return 1 if others_grey else 3
    count = counts.pop()
    if count not in (3, 4) and len(arrays) < len(found.facts):
        raise UsageError(f"{found.label}: .npy files of {count} channels beside other images; use one kind")
    return count


SAMPLED, MOST_COLOURS = 12, 64
"""How many files are looked at for label maps, and how many colours one of those has at most."""


def choose_labels(found: Survey, asked: bool | None) -> bool:
    """Whether a domain's images are label maps: as asked, else where each sampled one has few colours.

    Few are 2 to 64, and less than one for 16 pixels; one file of one colour says nothing.
    """
    if asked is not None or found.part in ("lightness", "colour"):
        return bool(asked)
    step = max(1, len(found.listed) // SAMPLED)
    counts = (_colours(found, file.name) for file in found.listed[::step][:SAMPLED])
    most = 1
    for few in counts:
        if few is None:
            return False
        most = max(most, few)
    return most > 1


def _colours(found: Survey, name: str) -> int | None:
    """How many colours an image has, None for many; 1 of an image that cannot be read."""
    try:
        rule = LoadRule(DataSettings(), found.facts[name].channels, 1, part=found.part)
        image = read(found.folder / name, rule)
    except (images.ImageError, OSError, KeyError):
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


def too_small(found: Survey, settings: DataSettings, multiple_of: int) -> list[str]:
    """Files that no crop fits into, where loading does not enlarge."""
    least = {"crop": settings.size, "none": multiple_of}.get(settings.resize, 1)
    return found.having(lambda facts: min(facts.width, facts.height) < least)


def notes(found: Survey, channels: int) -> list[str]:
    """One line for each thing that is read otherwise than it is stored."""
    deep = found.having(lambda facts: facts.sixteen_bit)
    moving = found.having(lambda facts: facts.frames > 1)
    alpha = found.having(lambda facts: facts.channels == 4) if channels in (1, 3) else []
    lines = [
        (deep, "of 16 bits: their values are divided by 257"),
        (moving, "with several frames: only the first is used"),
        (alpha, f"with alpha: laid over white (data.channels_{found.label.lower()} 4 would keep it)"),
    ]
    return [f"{found.label}: {counted(names)} {what} ({some(names)})" for names, what in lines if names]


def duplicates(entries: Sequence[Entry]) -> list[list[str]]:
    """Groups of names whose files are equal byte for byte."""
    groups: dict[str, list[str]] = {}
    for entry in entries:
        groups.setdefault(entry.hash, []).append(entry.name)
    return [names for names in groups.values() if len(names) > 1]


def shared(a: Sequence[Entry], b: Sequence[Entry]) -> list[str]:
    """Names in `a` of files that are in `b` too, byte for byte."""
    hashes = {entry.hash for entry in b}
    return [entry.name for entry in a if entry.hash in hashes]


def counted(names: Sequence[object]) -> str:
    return f"{len(names):,} image{'' if len(names) == 1 else 's'}"


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
