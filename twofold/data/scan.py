"""A first look at a folder: its image files, their headers, and the contract that follows from them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from twofold.data.cache import THREADS
from twofold.data.geometry import Part
from twofold.data.manifest import File, Folder
from twofold.data.rules import some
from twofold.data.settings import DataSettings
from twofold.errors import UsageError
from twofold.formats import images
from twofold.formats.contract import DTYPES, Contract, whole_range
from twofold.formats.npy import Layout
from twofold.prefetch import prefetch


def find_folder(path: Path, part: Part = "whole") -> Folder:
    """A folder with every image file in it; the headers are not read yet."""
    root = path.expanduser().resolve()
    return Folder(root, tuple(list_files(root)), part)


def with_headers(folder: Folder, layout: Layout) -> Folder:
    """The folder with what the headers of its files say. The sizes of a half are its own."""
    parts = 2 if folder.part in ("left", "right") else 1
    paths = [folder.path / file.name for file in folder.files]
    headers = prefetch(partial(_header, layout=layout), paths, THREADS, depth=64)
    facts, files = {}, []
    for file, found in zip(folder.files, headers, strict=True):
        if found:
            facts[file.name] = found
            file = file._replace(width=found.width // parts, height=found.height)
        files.append(file)
    return replace(folder, files=tuple(files), facts=facts)


def _header(path: Path, layout: Layout) -> images.Facts | None:
    try:
        return images.inspect(path, layout)
    except images.ImageError:
        return None


def list_files(root: Path, suffix: str = "") -> list[File]:
    """Every image file below an absolute folder, with size and time, in natural order; of one suffix if given."""
    found = (path for path in images.find(root) if not suffix or path.suffix.lower() == suffix)
    return [stat_file(root, path.relative_to(root).as_posix()) for path in found]


def stat_file(root: Path, name: str) -> File:
    """A file by its name relative to `root`, with size and time; of a broken link those of the link."""
    path = root / name
    stat = path.stat() if path.exists() else path.lstat()
    return File(name, stat.st_size, stat.st_mtime_ns)


def choose_contract(label: str, folders: Sequence[Folder], settings: DataSettings) -> Contract:
    """What the pixels of a domain are, by the headers of all files of its folders; its range is still open.

    The first folder decides. Pictures of 8 bits may be grey, in colour and with alpha: they get 1 channel if all are
    grey, else 3. Deeper files, and files of other channels, must be all of one kind.

    Raises:
        UsageError: the files differ in the type of their values or in their channels, or the user's channels do not fit.
    """
    first, a = folders[0], label == "A"
    wanted, given = (settings.channels_a, settings.range_a) if a else (settings.channels_b, settings.range_b)
    facts = {
        f"{folder.path.name}/{name}" if folder is not first else name: found
        for folder in folders
        for name, found in folder.facts.items()
    }
    _refuse_kinds(label, "the type of their values", {name: each.dtype for name, each in facts.items()})
    dtype = next((each.dtype for each in facts.values()), "uint8")
    if first.part in ("lightness", "colour"):
        _refuse_lab(dtype, facts)
        return Contract(channels=1 if first.part == "lightness" else 2, icc=settings.icc)
    channels = _choose_channels(label, first, dtype) if wanted is None else wanted
    for name, each in facts.items():
        if not _converts(each, channels):
            raise UsageError(
                f"{label}: {name} has {each.channels} channel{'s' * (each.channels > 1)}, not {channels}; "
                + (f"leave out data.channels_{label.lower()}" if wanted else "give images of one kind")
            )
    if isinstance(given, tuple):
        (low, high), found = given, "settings"
    else:
        (low, high), found = (0.0, 1.0) if dtype.startswith("f") else whole_range(dtype), "dtype"
    return Contract(dtype, channels, (low,), (high,), found, icc=settings.icc)


def choose_label_contract(label: str, folders: Sequence[Folder], settings: DataSettings) -> Contract:
    """What the stored pixels of label maps are, by the headers; their classes are found when they are read.

    Files that share one palette are its indices, grey files are ids, others are colours.

    Raises:
        UsageError: the values are not whole numbers, or of colours have more than 8 bits.
    """
    wanted = settings.channels_a if label == "A" else settings.channels_b
    facts = {name: each for folder in folders for name, each in folder.facts.items()}
    colours = not palette_of(folders) and any(not each.grey and each.channels > 1 for each in facts.values())
    channels = wanted or (3 if colours else 1)
    allowed = ("uint8",) if channels > 1 else LABEL_TYPES
    for name, each in facts.items():
        if each.dtype not in allowed or channels not in (1, 3):
            raise UsageError(
                f"{label}: {name} holds {each.dtype} values of {each.channels} channel{'s' * (each.channels > 1)}, which are no"
                " classes; store label maps as ids (1 channel of whole numbers) or as colours (3 channels of 8 bits)"
            )
    dtype = np.result_type("uint8", *(each.dtype for each in facts.values())).name
    low, high = whole_range(dtype := dtype if dtype in LABEL_TYPES else "int32")
    return Contract(dtype, channels, (low,), (high,), "labels")


LABEL_TYPES = tuple(name for name in DTYPES if "int" in name)
"""Types of ids."""


def palette_of(folders: Sequence[Folder]) -> tuple[tuple[int, int, int], ...]:
    """The colour of each index from 0, if all files of a domain share one palette, else (): then colours are the classes.

    A shorter palette may be the beginning of a longer one.
    """
    palettes = [each.palette for folder in folders for each in folder.facts.values()]
    longest = max(palettes, key=len, default=())
    return longest if all(each and each == longest[: len(each)] for each in palettes) else ()


def _choose_channels(label: str, folder: Folder, dtype: str) -> int:
    counts = {name: _bands(each) for name, each in folder.facts.items()}
    kinds = set(counts.values())
    if dtype == "uint8" and kinds <= {1, 3}:
        return 1 if kinds == {1} else 3
    _refuse_kinds(
        label, "channels", {name: f"{count} channel{'s' * (count > 1)}" for name, count in counts.items()}
    )
    return kinds.pop()


def _bands(facts: images.Facts) -> int:
    """Channels without alpha; grey with alpha counts as 1."""
    return (1 if facts.grey else 3) if facts.alpha else facts.channels


def _converts(facts: images.Facts, channels: int) -> bool:
    """Whether a file can be read with so many channels."""
    is_picture = _bands(facts) in (1, 3)
    return facts.channels == channels or (is_picture and channels in (1, 3, 4))


def _refuse_kinds(label: str, what: str, kinds: Mapping[str, str]) -> None:
    """Refuse files that differ; `kinds` has the kind of each by its name."""
    groups: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        groups.setdefault(kind, []).append(name)
    if len(groups) > 1:
        listed = "; ".join(f"{kind}: {some(names, 2)}" for kind, names in sorted(groups.items()))
        raise UsageError(f"{label}: the images differ in {what} ({listed}); give images of one kind")


def _refuse_lab(dtype: str, facts: Mapping[str, images.Facts]) -> None:
    wrong = [name for name, each in facts.items() if dtype != "uint8" or _bands(each) not in (1, 3)]
    if wrong:
        what = f"{dtype} with {facts[wrong[0]].channels} channels"
        raise UsageError(
            f"data.lab needs colour pictures of 8 bits; {some(wrong)} hold {what}; leave out data.lab"
        )
