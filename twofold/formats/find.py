"""Image files below a folder."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from twofold.errors import UsageError

TIFF_SUFFIXES = {".tif", ".tiff", ".btf", ".svs"}
"""The suffixes of TIFF files, in lower case; .svs is Aperio's for slides, .btf one for files over 4 GiB."""

SUFFIXES = TIFF_SUFFIXES | {
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".bmp", ".gif", ".tga", ".jp2", ".j2k"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".npy", ".npz"),
}
"""The suffixes of image files in a folder, in lower case; other files are ignored."""

CONVERT = {
    **dict.fromkeys((".heic", ".heif"), "convert with `magick mogrify -format png *.heic`"),
    ".jxl": "convert with `djxl FILE.jxl FILE.png`",
    **dict.fromkeys(
        (".dng", ".cr2", ".cr3", ".nef", ".arw", ".psd", ".exr", ".svg"), "convert to TIFF or PNG"
    ),
    **dict.fromkeys((".dcm", ".nii", ".mha", ".czi", ".lif", ".nd2", ".ndpi"), "convert to TIFF or .npy"),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv"), "extract its frames with ffmpeg"),
}
"""What to do with images of kinds that are not read, by their suffixes."""

_JUNK = frozenset(["__macosx", "@eadir", "thumbs.db", "desktop.ini"])
"""Names, in lower case, of what operating systems and network disks leave beside images."""


class Found(NamedTuple):
    """What a folder holds."""

    images: list[Path]
    """In natural order of the relative name: 2 before 10."""
    ignored: Counter[str]
    """How many other files there are of each suffix, in lower case."""
    junk: int
    """Hidden files and folders, and what operating systems leave; a folder counts once."""

    def ignored_kinds(self) -> list[str]:
        """The other files in words: ["3 .heic (convert with …)", "1 .txt"]; the most frequent first."""
        return [
            f"{count:,} {suffix or 'without a suffix'}"
            + (f" ({CONVERT[suffix]})" if suffix in CONVERT else "")
            for suffix, count in self.ignored.most_common()
        ]


def find(folder: Path | str) -> list[Path]:
    """Every image file below `folder`, in natural order of its relative name (2 before 10).

    Hidden files and folders are skipped; symbolic links are followed, each folder once.

    Raises:
        UsageError: `folder` is missing, not a folder, unreadable, or holds no image.
    """
    found = find_all(folder)
    if not found.images:
        others = ", ".join(found.ignored_kinds()[:8]) or "no files"
        known = " ".join(sorted(SUFFIXES))
        raise UsageError(f"{Path(folder)} holds no images ({others}); known suffixes: {known}")
    return found.images


def find_all(folder: Path | str) -> Found:
    """Every image file below `folder`, and a count of what is left out; as `find`, but a folder without images is one.

    Raises:
        UsageError: `folder` is missing, not a folder or unreadable.
    """
    root = Path(folder)
    if not root.exists():
        raise UsageError(f"{root} does not exist; give a folder of images")
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder; give a folder of images")
    found = Found([], Counter(), 0)
    for path in _walk(root):
        if _is_junk(path.name):
            found = found._replace(junk=found.junk + 1)
        elif path.is_file() or not path.exists():  # reading a broken link says what is missing
            suffix = path.suffix.lower()
            if suffix in SUFFIXES:
                found.images.append(path)
            else:
                found.ignored[suffix] += 1
    found.images.sort(key=lambda path: _natural(path.relative_to(root).as_posix()))
    return found


def _walk(root: Path) -> Iterator[Path]:
    """Every file, and every folder that is junk, whose content is left out."""
    visited: set[str] = set()
    for here, folders, names in os.walk(root, onerror=_refuse_unreadable, followlinks=True):
        real = os.path.realpath(here)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        yield from (Path(here, name) for name in (*filter(_is_junk, folders), *names))
        folders[:] = sorted(name for name in folders if not _is_junk(name))


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _JUNK


def _refuse_unreadable(error: OSError) -> None:
    raise UsageError(f"cannot read the folder {error.filename}: {error.strerror}; check its permissions")


def _natural(name: str) -> tuple[list[str | int], str]:
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name
