"""Fetch a file over HTTP so that a broken connection costs only time. Standard library only.

Beside the file to be, NAME.part grows, and NAME.part.json names the file and server that it is from. Nothing is
fetched unless the user requests it.
"""

import hashlib
import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from twofold.errors import TwofoldError
from twofold.files import lock, write_atomically

Notify = Callable[[str], None]
Track = Callable[[Iterator[None], int | None, str], Iterator[None]]
"""Passes on the items of an iterator, of which there are so many (None: not known), and shows the progress."""

CHUNK, UNIT = 1 << 16, 1 << 20
TRIES = 2, 5
"""Tries in a row without a new byte: of a mirror that has sent nothing so far, and of one that has."""
PAUSE = 1.0
"""Seconds before the second try; twice as many before each further one."""
TIMEOUT = 20.0
"""Seconds without an answer or a byte."""


class Broken(Exception):
    """The connection broke, or the server has a problem: try again."""


class Useless(Exception):
    """This mirror does not have the file: try the next one."""


class Source(NamedTuple):
    """The file on a server of which NAME.part holds the beginning."""

    url: str
    validator: str
    """A strong ETag, or the time of the last change; tells whether the server still has the same file."""
    total: int | None
    """Bytes; None: not known."""


def fetch(
    mirrors: Sequence[str],
    target: Path,
    *,
    advice: str,
    size: int | None = None,
    sha256: str | None = None,
    space: int = 1,
    notify: Notify = lambda _: None,
    track: Track = lambda items, *_: items,
) -> None:
    """Download `target` from the first mirror that has it, or continue an earlier download.

    Args:
        advice: the end of the error message if no mirror has the file.
        size: the known size in bytes; a mirror with another size is skipped.
        sha256: the known checksum; another file is deleted.
        space: how many times the file's size must be free on the disk, because it will be unpacked there.

    Raises:
        TwofoldError: no mirror has the file, the connection keeps breaking, the checksum differs, the disk is full,
            or another process downloads the same. The bytes so far are kept for the next call.
    """
    part = Partial(target.with_name(f"{target.name}.part"), size, space, notify, track)
    busy = part.path.with_name(f"{part.path.name}.lock")
    with lock(busy, f"{part.path} is being downloaded by another process; wait for it"):
        try:
            with part.opened():
                problems = _from_mirrors(mirrors, part)
            if problems:
                raise TwofoldError(f"cannot fetch {target.name} ({'; '.join(problems)}); {advice}")
            part.finish(target, sha256)
        finally:
            with suppress(OSError):
                busy.unlink()


def _from_mirrors(mirrors: Sequence[str], part: "Partial") -> list[str]:
    """Fill the part from the mirror it is from, else from the first that has the file; the problems if none has."""
    earlier = part.source()
    problems = []
    for url in sorted(mirrors, key=lambda url: earlier is None or url != earlier.url):
        try:
            _persist(url, part)
        except Useless as error:
            problems.append(f"{url}: {error}")
        else:
            return []
    return problems


def _persist(url: str, part: "Partial") -> None:
    """Download from one mirror, and continue where the connection breaks."""
    most, idle = 0, 0
    while True:
        try:
            if _attempt(url, part):
                return
            problem = "the connection broke"
        except Broken as error:
            problem = str(error)
        most, idle = max(part.size, most), 0 if part.size > most else idle + 1
        if idle == TRIES[part.size > 0]:
            if part.size == 0:
                raise Useless(problem)
            raise TwofoldError(
                f"{url}: {problem} at {sized(part.size)}; run the same command again to continue from there"
            )
        time.sleep(PAUSE * 2 ** (idle - 1) if idle else 0)


def _attempt(url: str, part: "Partial") -> bool:
    """Send one request; whether the file is complete after it. Earlier bytes are kept only if they fit."""
    here, have = part.source(), part.size
    resumable = here is not None and here.url == url and have > 0
    headers = {"User-Agent": "twofold"}
    if here is not None and resumable:
        headers |= {"Range": f"bytes={have}-", "If-Range": here.validator}
    with _answer(url, headers) as response:
        status = response.status or 200  # a file:// address has none
        if resumable and status == 416 and _content_range(response)[1] == have:
            return True
        there = _source_of(url, response)
        if status == 206 and not (here and resumable and _continues(response, there, here, have)):
            part.restart(None)
            return False
        if status not in (200, 206):
            part.restart(None)
            raise Broken(f"the server answers {status}")
        if status == 200:
            part.check(there)
            part.restart(there)
        part.append(response, there)
    return there.total is None or part.size == there.total


class Partial:
    """The growing file NAME.part, and NAME.part.json with its `Source`."""

    def __init__(self, path: Path, known_size: int | None, space: int, notify: Notify, track: Track) -> None:
        self.path, self.note = path, path.with_name(f"{path.name}.json")
        self.known_size, self.space, self.notify, self.track = known_size, space, notify, track
        self.file: IO[bytes]

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Open the file for appending; remove it if it is empty in the end."""
        with self.path.open("a+b", buffering=0) as self.file:
            try:
                yield
            finally:
                empty = self.size == 0
        if empty:
            self.note.unlink(missing_ok=True)
            self.path.unlink()

    @property
    def size(self) -> int:
        return self.file.seek(0, 2)

    def source(self) -> Source | None:
        """Where the bytes are from; None if that is not known, so that the download must start anew."""
        try:
            here = Source(**json.loads(self.note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return here if here.validator and isinstance(here.validator, str) else None

    def check(self, there: Source) -> None:
        """Refuse a mirror whose file has another size than the known one."""
        if self.known_size is not None and there.total not in (None, self.known_size):
            raise Useless(f"the file there has {there.total} bytes, the known one {self.known_size}")

    def restart(self, there: Source | None) -> None:
        """Empty the file first, then note what it will hold."""
        self.file.truncate(0)
        self.note.unlink(missing_ok=True)
        if there is not None:
            write_atomically(self.note, json.dumps(there._asdict()))

    def append(self, response: http.client.HTTPResponse, there: Source) -> None:
        """Append the body of an answer."""
        have, total = self.size, there.total
        if total is not None:
            check_space(self.path, self.space * total - have, self.path)
        of_total = f" of {sized(total)}" if total else ""
        self.notify(f"{f'continuing at {sized(have)}' if have else f'downloading {there.url}'}{of_total}")
        for _ in self.track(self._copied(response), total and (total - have) // UNIT, "downloading"):
            pass

    def _copied(self, response: http.client.HTTPResponse) -> Iterator[None]:
        """Append the body, and yield after every mebibyte."""
        done = 0
        while chunk := _received(response):
            self.file.write(chunk)
            before, done = done, done + len(chunk)
            yield from (None for _ in range(done // UNIT - before // UNIT))

    def finish(self, target: Path, sha256: str | None) -> None:
        """Give the complete file its name, if it has the known checksum."""
        self.note.unlink(missing_ok=True)
        if sha256 is not None and hash_of(self.path) != sha256:
            self.path.unlink()
            raise TwofoldError(
                f"{target.name} from its server is not the published file: its SHA-256 is not {sha256[:16]}…;"
                f" try again, or put the file at {target}"
            )
        self.path.replace(target)


@contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[Any]:
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


def _source_of(url: str, response: http.client.HTTPResponse) -> Source:
    etag, changed = response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")
    length = response.headers.get("Content-Length", "")
    total = (
        _content_range(response)[1] if response.status == 206 else int(length) if length.isdecimal() else None
    )
    return Source(url, etag if etag.startswith('"') else changed, total)


def _content_range(response: http.client.HTTPResponse) -> tuple[int | None, int | None]:
    """First byte and total of `Content-Range: bytes 5-9/10`, or of `bytes */10`."""
    span, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    first = span.partition("-")[0]
    return int(first) if first.isdecimal() else None, int(total) if total.isdecimal() else None


def _continues(response: http.client.HTTPResponse, there: Source, here: Source, have: int) -> bool:
    """Whether a partial answer is the rest of the same file: a changed file must not be appended to an old one."""
    same = there.validator in ("", here.validator) and here.total in (None, there.total)
    return same and _content_range(response)[0] == have


def _received(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise Broken(f"the connection broke ({type(error).__name__})") from error


def check_space(folder: Path, needed: int, archive: Path) -> None:
    """Raise TwofoldError if the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise TwofoldError(
            f"{archive.name} needs {sized(needed)} more on the disk of {folder.parent}, which has {sized(free)};"
            " free some space, or put it elsewhere"
        )


def hash_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def sized(count: float) -> str:
    """Bytes for people: 117 MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.{0 if count >= 1e7 else 1}f} MB"
