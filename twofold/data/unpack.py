"""Unpack an archive of images from an untrusted source. Standard library only."""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO

from twofold.errors import TwofoldError
from twofold.fetch import Track, check_space, sized

CHUNK = 1 << 20
LARGEST = 20, 100 << 20
"""An archive that grows to more than 20 times its size, and to more than 100 MiB, is a bomb."""
MOST_FILES = 1_000_000
DEEPEST = 32
"""The most folders inside each other."""
LITTER = {"__MACOSX", ".DS_Store"}
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


Member = tuple[str, str, Callable[[], IO[bytes] | None]]
"""Its name; why it must not be unpacked, empty for plain files and folders; its content, None for a folder."""


def unpack(archive: Path, out: Path, track: Track) -> None:
    """Unpack a .zip or a .tar of any compression as the folder `out`, which appears whole or not at all.

    A single folder at the top of the archive becomes `out` itself. Only plain files and folders are made, all of
    them inside `out`, with this user's usual rights.

    Raises:
        TwofoldError: the archive is damaged, holds something else, would escape, or fills the disk.
    """
    try:
        with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as holder, opened(archive) as content:
            members, count, size = content
            check_space(out.parent, size, archive)
            aside = Path(holder) / "unpacked"
            aside.mkdir()
            for _ in track(extracted(archive, members, aside), count, "unpacking"):
                pass
            inside = list(aside.iterdir())
            if not inside:
                raise TwofoldError(f"{archive} is empty; download it again")
            if out.exists():
                out.rmdir()
            (inside[0] if len(inside) == 1 and inside[0].is_dir() else aside).rename(out)
    except BROKEN as error:
        raise TwofoldError(
            f"{archive} is damaged ({error or 'it ends too early'}); download it again"
        ) from error


@contextmanager
def opened(archive: Path) -> Iterator[tuple[Iterator[Member], int | None, int]]:
    """The members of an archive, how many they are (None: not known), and the bytes that they take at least."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            infos = file.infolist()
            yield zip_members(file), len(infos), sum(info.file_size for info in infos)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as file:
            yield tar_members(file), None, archive.stat().st_size
    else:
        raise TwofoldError(f"{archive} is neither a .zip nor a .tar; remove it and download it again")


def extracted(archive: Path, members: Iterator[Member], folder: Path) -> Iterator[None]:
    """Write each member below `folder`, and yield after each."""
    limit = max(LARGEST[1], LARGEST[0] * archive.stat().st_size)
    written = 0
    for count, (name, problem, read) in enumerate(members, 1):
        parts = PurePosixPath(name).parts
        why = problem or unsafe(name) or ("too many files" if count > MOST_FILES else "")
        if why:
            raise TwofoldError(f"{archive} was not unpacked: it holds {name[:80]!r}, {why}")
        if LITTER & set(parts) or not parts:
            continue
        target = folder.joinpath(*parts)
        try:
            source = read()
            if source is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, target.open("xb") as file:
                while chunk := source.read(CHUNK):
                    written += len(chunk)
                    if written > limit:
                        raise TwofoldError(
                            f"{archive} was not unpacked: it grows to more than {sized(limit)}, too much for images"
                        )
                    file.write(chunk)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise TwofoldError(f"{archive} was not unpacked: it holds {name[:80]!r} twice") from error
        yield


def unsafe(name: str) -> str:
    """The problem with a name in an archive; empty if there is none."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        return "which leads out of its folder"
    if not name.isprintable() or len(path.parts) > DEEPEST or len(name.encode(errors="replace")) > 1000:
        return "which is not the name of an image"
    return ""


def zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where no Unix made it
        why = "which is not a plain file" if kind not in (0, stat.S_IFREG, stat.S_IFDIR) else ""
        why = why or ("which is encrypted" if info.flag_bits & 1 else "")
        yield info.filename, why, (lambda: None) if info.is_dir() else partial(archive.open, info)


def tar_members(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        why = "" if info.isreg() or info.isdir() else "which is not a plain file"
        yield info.name, why, partial(archive.extractfile, info)
