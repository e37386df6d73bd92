"""`twofold data download`: a published data set, fetched so that a broken connection costs nothing but time.

Beside the folder to be: NAME.zip.part grows, and NAME.zip.part.json says of which file on which server. Standard
library only; nothing is fetched unless a user asks.
"""

import fcntl
import hashlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from twofold.data.published import Published, find
from twofold.data.unpack import Track, check_space, sized, unpack
from twofold.errors import TwofoldError, UsageError

CHUNK, UNIT = 1 << 16, 1 << 20
TRIES = 2, 5
"""In a row without a byte more before giving up: of a mirror that gave nothing yet, and of one that did."""
PAUSE = 1.0
"""Seconds before the second try; twice as many before each further one."""
TIMEOUT = 20.0
"""Seconds without an answer or a byte."""


class Broken(Exception):
    """The connection broke, or the server is in trouble: try again."""


class Useless(Exception):
    """This mirror does not have the file: try the next one."""


class Here(NamedTuple):
    """What NAME.part holds the beginning of."""

    url: str
    validator: str
    """A strong ETag, or the time of the last change: what the server recognises this very file by."""
    total: int | None


def download(
    name: str, out: Path | None, archive: Path | None, notify: Callable[[str], None], track: Track
) -> Path:
    """Fetch a published data set and unpack it; or unpack an archive of it that was got by hand.

    Args:
        name: see `published.PUBLISHED`.
        out: the folder, which appears whole or not at all; the name in the current folder if None.
        archive: a file to take instead of the network.

    Returns:
        The folder.

    Raises:
        UsageError: there is no such data set or archive, or `out` is in use.
        TwofoldError: no mirror has it, the connection does not last, the file is not the known one or is
            hostile, or the disk is full. What was fetched is kept, and the next call goes on with it.
    """
    published = find(name)
    out = (out or Path(name)).expanduser().absolute()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out} is there already; remove it, or give another --out")
    if archive is not None and not archive.is_file():
        raise UsageError(f"there is no file {archive}")
    out.parent.mkdir(parents=True, exist_ok=True)
    file = archive or out.parent / f"{name}{published.archive[published.archive.index('.') :]}"
    if archive is None and not file.is_file():
        fetch(published, file, f"twofold data download {name} --from", notify, track)
    record = file.with_name(f"{file.name}.sha256")
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    known = published.sha256 or recorded(record) or found
    if found != known:
        problem = f"{file} is not the file that is known: SHA-256 {found[:16]}…, not {known[:16]}…"
        if archive is None:
            raise TwofoldError(
                f"{problem}; if you trust it, unpack it with `twofold data download {name} --from {file}`,"
                " else remove it"
            )
        notify(f"note: {problem}")
    unpack(file, out, track)
    if archive is None:
        if published.sha256 is None:
            record.write_text(f"{found}  {file.name}\n")  # as sha256sum writes it
        file.unlink()
    return out


def recorded(record: Path) -> str | None:
    """The checksum that an earlier download left."""
    words = record.read_text().split() if record.is_file() else []
    return words[0] if words else None


def fetch(
    published: Published, file: Path, by_hand: str, notify: Callable[[str], None], track: Track
) -> None:
    """Download from the first mirror that has the file."""
    part = file.with_name(f"{file.name}.part")
    begun = read_note(part)
    mirrors = sorted(published.mirrors, key=lambda url: begun is None or url != begun.url)
    problems: list[str] = []
    with locked(part) as growing:
        for url in mirrors:
            try:
                persist(url, growing, part, published, notify, track)
            except Useless as error:
                problems.append(f"{url}: {error}")
            else:
                note(part).unlink(missing_ok=True)
                part.rename(file)
                return
        if growing.seek(0, 2) == 0:
            note(part).unlink(missing_ok=True)
            part.unlink()
    raise TwofoldError(
        f"no mirror gives {published.archive} ({'; '.join(problems)}); try again later, or get it elsewhere and"
        f" unpack it with `{by_hand} {published.archive}`"
    )


@contextmanager
def locked(part: Path) -> Iterator[IO[bytes]]:
    """The growing file, for one process alone."""
    with part.open("a+b", buffering=0) as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TwofoldError(f"{part} is being downloaded by another process; wait for it") from error
        yield file


def persist(
    url: str, file: IO[bytes], part: Path, published: Published, notify: Callable[[str], None], track: Track
) -> None:
    """Download from one mirror, and go on where the connection breaks."""
    most, idle = 0, 0
    while True:
        try:
            if attempt(url, file, part, published, notify, track):
                return
            problem = "the connection broke"
        except Broken as error:
            problem = str(error)
        size = file.seek(0, 2)
        most, idle = max(size, most), 0 if size > most else idle + 1
        if idle == TRIES[size > 0]:
            if size == 0:
                raise Useless(problem)
            raise TwofoldError(f"{url}: {problem} at {sized(size)}; the same command goes on from there")
        time.sleep(PAUSE * 2 ** (idle - 1) if idle else 0)


def attempt(
    url: str, file: IO[bytes], part: Path, published: Published, notify: Callable[[str], None], track: Track
) -> bool:
    """One request; whether the file is complete after it. What was there before is kept only if it fits."""
    here, have = read_note(part), file.seek(0, 2)
    resumable = here is not None and here.url == url and have > 0
    headers = {"User-Agent": "twofold"}
    if here is not None and resumable:
        headers |= {"Range": f"bytes={have}-", "If-Range": here.validator}
    with opened(url, headers) as response:
        status = response.status
        if here is not None and resumable and status == 416 and ranged(response)[1] == have:
            return True
        there = described(url, response)
        if status == 206 and not (resumable and continues(response, there, here, have)):
            restart(file, part, None)
            return False
        if status not in (200, 206):
            restart(file, part, None)
            raise Broken(f"the server answers {status}")
        if published.bytes is not None and there.total not in (None, published.bytes):
            raise Useless(f"the file there has {there.total} bytes, the known one {published.bytes}")
        if status == 200:
            restart(file, part, there)
            have = 0
        if there.total is not None:
            check_space(part, 2 * there.total - have, part)  # the archive and what is in it
        ends = f" of {sized(there.total)}" if there.total else ""
        notify(f"{'going on at' if have else 'downloading'} {sized(have) if have else url}{ends}")
        units = None if there.total is None else (there.total - have) // UNIT
        for _ in track(copied(response, file), units, "downloading"):
            pass
    return there.total is None or file.seek(0, 2) == there.total


@contextmanager
def opened(url: str, headers: dict[str, str]) -> Iterator[Any]:
    """The server's answer, an http.client.HTTPResponse or, for status 416, an error that reads like one."""
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code in (408, 425, 429) or error.code >= 500:
            raise Broken(f"the server answers {error.code} {error.reason}") from error
        if error.code != 416:
            raise Useless(f"{error.code} {error.reason}") from error
        answer = error
    except urllib.error.URLError as error:
        raise Broken(f"cannot be reached ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise Broken(f"the connection broke ({type(error).__name__})") from error
    with answer:
        yield answer


def described(url: str, response: http.client.HTTPResponse) -> Here:
    """What file an answer is of."""
    etag, changed = response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")
    length = response.headers.get("Content-Length", "")
    total = ranged(response)[1] if response.status == 206 else int(length) if length.isdecimal() else None
    return Here(url, etag if etag.startswith('"') else changed, total)


def ranged(response: http.client.HTTPResponse) -> tuple[int | None, int | None]:
    """First byte and total of `Content-Range: bytes 5-9/10`, or of `bytes */10`."""
    span, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    first = span.partition("-")[0]
    return int(first) if first.isdecimal() else None, int(total) if total.isdecimal() else None


def continues(response: http.client.HTTPResponse, there: Here, here: Here | None, have: int) -> bool:
    """Whether a partial answer is the rest of what is here: a changed file must not be glued to an old one."""
    assert here is not None
    same = there.validator in ("", here.validator) and here.total in (None, there.total)
    return same and ranged(response)[0] == have


def copied(response: http.client.HTTPResponse, file: IO[bytes]) -> Iterator[None]:
    """Append what comes, and yield after every mebibyte."""
    done = 0
    while chunk := received(response):
        file.write(chunk)
        before, done = done, done + len(chunk)
        yield from (None for _ in range(done // UNIT - before // UNIT))


def received(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise Broken(f"the connection broke ({type(error).__name__})") from error


def note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def read_note(part: Path) -> Here | None:
    """What the growing file is of; None where it cannot be told, so that it has to start anew."""
    try:
        here = Here(**json.loads(note(part).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return here if here.validator and isinstance(here.validator, str) else None


def restart(file: IO[bytes], part: Path, there: Here | None) -> None:
    """Empty the growing file first, then note what it will be of."""
    file.truncate(0)
    note(part).unlink(missing_ok=True)
    if there is not None:
        note(part).write_text(json.dumps(there._asdict()))
