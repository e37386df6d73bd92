"""Write files whole or not at all, and lock a folder against a second process."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from twofold.errors import TwofoldError


@contextmanager
def replacing(path: Path, *, durable: bool = False, shared: bool = False) -> Iterator[Path]:
    """Give a path beside `path` to write to; rename it over `path` when the block ends, remove it when the block fails.

    Args:
        path: the file that appears whole or keeps its old content. Its folder is created.
        durable: wait until the disk has the content, so that a power cut cannot lose it.
        shared: another process may write the same file at the same time.

    Raises:
        OSError: the disk refused.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}" if shared else f".{path.name}")
    try:
        yield aside
        if durable:
            sync(aside)
        aside.replace(path)
    except BaseException as error:
        with suppress(OSError):  # which would hide the error
            aside.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(aside)):  # a full disk names no file
            error.filename = str(path)
            del error.filename2  # of the rename
        raise


def write_atomically(
    path: Path, content: str | bytes, *, durable: bool = False, shared: bool = False
) -> None:
    """Write `content` (text as UTF-8) to `path`, whole or not at all; arguments as of `replacing`."""
    with replacing(path, durable=durable, shared=shared) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def sync(path: Path) -> None:
    """Wait until the disk has a file, or a folder's list of files (where the system can)."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


PROBED = 0.5
"""Seconds for which a lock may seem held because `is_locked` looks at it."""


@contextmanager
def lock(path: Path, message: str, *, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock file `path` for this process; the system drops it when the process dies.

    Args:
        wait: if another live process holds the lock, call this with `message` and wait until it is free.

    Raises:
        TwofoldError: another live process holds it, and `wait` is None; says `message`.
        OSError: the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path, timeout=0)
    try:
        holding = held.acquire(timeout=PROBED)
    except Timeout as error:
        if wait is None:
            raise TwofoldError(message) from error
        wait(message)
        holding = held.acquire(timeout=-1)
    with holding:
        yield


def is_locked(path: Path) -> bool | None:
    """Whether a live process holds the lock file `path`; None where there is no such file, or it cannot be tried."""
    if not path.is_file():
        return None
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except (OSError, ValueError, NotImplementedError):
        return None


FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk, a full quota, a limit on file sizes."""


@contextmanager
def explained_full_disk(folder: Path) -> Iterator[None]:
    """Turn an error for lack of space, from any library, into one line that names the folder.

    Raises:
        TwofoldError: no space is left.
    """
    try:
        yield
    except Exception as error:
        if not any(os.strerror(code) in str(error) for code in FULL_DISK):
            raise
        raise TwofoldError(
            f"no space left under {folder}: free some and run the same command again; nothing saved was lost"
        ) from error
