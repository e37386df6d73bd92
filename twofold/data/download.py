"""`twofold data download`: fetch a published data set and unpack it, or unpack an archive of it."""

import shlex
from pathlib import Path

from twofold.data.published import find
from twofold.data.unpack import unpack
from twofold.errors import TwofoldError, UsageError
from twofold.fetch import Notify, Track, fetch, hash_of


def download(name: str, out: Path | None, archive: Path | None, notify: Notify, track: Track) -> Path:
    """Fetch a published data set and unpack it; or unpack an archive of it that the user has.

    Args:
        out: the folder, which appears whole or not at all; the name in the current folder if None.
        archive: a file to use in place of the network.

    Raises:
        UsageError: there is no such data set or archive, or `out` is in use.
        TwofoldError: no mirror has it, the connection keeps breaking, the file is not the known one or is
            hostile, or the disk is full. The fetched bytes are kept, and the next call continues.
    """
    published = find(name)
    to = f" --out {shlex.quote(str(out))}" if out else ""
    out = (out or Path(name)).expanduser().absolute()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out} exists already; remove it, or give another --out")
    if archive is not None and not archive.is_file():
        raise UsageError(f"there is no file {archive}; give the archive that you downloaded")
    out.parent.mkdir(parents=True, exist_ok=True)
    file = archive or out.parent / f"{name}{published.archive[published.archive.index('.') :]}"
    if archive is None and not file.is_file():
        by_hand = f"twofold data download {name} --from {published.archive}{to}"
        advice = f"try again later, or get the file elsewhere and unpack it with `{by_hand}`"
        size = published.about if published.sha256 else None
        fetch(published.mirrors, file, advice=advice, size=size, space=2, notify=notify, track=track)
    found, known = hash_of(file), published.sha256
    if known is not None and found != known:
        problem = f"{file} is not the published file: its SHA-256 is {found[:16]}…, not {known[:16]}…"
        if archive is None:
            raise TwofoldError(
                f"{problem}; if you trust it, unpack it with `twofold data download {name} --from {shlex.quote(str(file))}{to}`,"
                " else remove it"
            )
        notify(f"note: {problem}")
    unpack(file, out, track)
    if archive is None:
        file.unlink()
    return out
