"""Fetch a file over HTTP, when the user requests it, so that a broken connection costs only time.

Beside the file to be, NAME.part grows, and NAME.part.json names the file and server that it is from.
"""

import hashlib
import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from twofold.errors import TwofoldError
from twofold.files import lock, write_atomically
from twofold.runs import Notify, Track, untracked

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
    track: Track = untracked,
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
            earlier, problems = part.source(), []
            for url in sorted(mirrors, key=lambda url: earlier is None or url != earlier.url):
                try:
                    _persist(url, part)
                    break
                except Useless as error:
                    problems.append(f"{url}: {error}")
            else:
                raise TwofoldError(f"cannot fetch {target.name} ({'; '.join(problems)}); {advice}")
            if sha256 is not None and hash_of(part.path) != sha256:
                part.clear()
                raise TwofoldError(
                    f"{target.name} from its server is not the published file: its SHA-256 is not {sha256[:16]}…;"
                    f" try again, or put the file at {target}"
                )
            part.path.replace(target)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command continues the download") from None
        finally:
            if part.size == 0:
                part.clear()
            with suppress(OSError):
                busy.unlink()


def _persist(url: str, part: "Partial") -> None:
    """Download from one mirror, and continue where the connection breaks."""
    most, idle = 0, 0
    while True:
        try:
            return _attempt(url, part)
        except Broken as error:
            most, idle = max(part.size, most), 0 if part.size > most else idle + 1
            if idle == TRIES[part.size > 0]:
                if part.size == 0:
                    raise Useless(str(error)) from error
                raise TwofoldError(
                    f"{url}: {error} at {sized(part.size)}; run the same command again to continue from there"
                ) from error
            time.sleep(PAUSE * 2 ** (idle - 1) if idle else 0)


def _attempt(url: str, part: "Partial") -> None:
    """Send one request. Earlier bytes are kept only if the answer continues the file that they are from."""
    have, here = part.size, part.source()
    headers = {"User-Agent": "twofold"}
    if here is not None and (here.url != url or not have):
        here = None
    if here is not None:
        headers |= {"Range": f"bytes={have}-", "If-Range": here.validator}
    with _answer(url, headers) as response:
        status = response.status or 200  # a file:// address has none
        first, total = _extent(response)
        if here is not None and status == 416 and total == have:
            return
        etag, changed = response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")
        there = Source(url, etag if etag.startswith('"') else changed, total)
        # A changed file must not be appended to an old one.
        same = here is not None and there.validator in ("", here.validator) and here.total in (None, total)
        if status == 200:
            part.start(there)
        elif status != 206 or first != have or not same:
            part.clear()
            raise Broken(f"the server answers {status} and not with the rest of the file")
        part.append(response, there)
    if total not in (None, part.size):
        raise Broken("the connection broke")


def _answer(url: str, headers: dict[str, str]) -> Any:
    """The server's answer, an http.client.HTTPResponse or, for status 416, an error that reads like one."""
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        again = error.code in (408, 425, 429) or error.code >= 500
        raise (Broken if again else Useless)(f"the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise Broken(f"cannot be reached ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise Broken(f"the connection broke ({type(error).__name__})") from error


def _extent(response: http.client.HTTPResponse) -> tuple[int | None, int | None]:
    """The first byte in a partial answer, and the bytes of the whole file; None: not known."""
    found = re.match(r"bytes (\d*).*/(\d*)", response.headers.get("Content-Range", ""))
    first, total = found.groups() if found else ("", response.headers.get("Content-Length", ""))
    return int(first) if first.isdecimal() else None, int(total) if total.isdecimal() else None


@dataclass
class Partial:
    """The growing file NAME.part, and NAME.part.json with its `Source`."""

    path: Path
    known_size: int | None
    space: int
    notify: Notify
    track: Track

    @property
    def note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def source(self) -> Source | None:
        """Where the bytes are from; None if that is not known, so that the download must start anew."""
        try:
            here = Source(**json.loads(self.note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return here if here.validator and isinstance(here.validator, str) else None

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def start(self, there: Source) -> None:
        if self.known_size is not None and there.total not in (None, self.known_size):
            raise Useless(f"the file there has {there.total} bytes, the known one {self.known_size}")
        self.clear()
        write_atomically(self.note, json.dumps(there._asdict()))

    def append(self, response: http.client.HTTPResponse, there: Source) -> None:
        have, total = self.size, there.total
        if total is not None:
            check_space(self.path.parent, self.space * total - have, self.path)
        of_total = f" of {sized(total)}" if total else ""
        self.notify(f"{f'continuing at {sized(have)}' if have else f'downloading {there.url}'}{of_total}")
        for _ in self.track(self._copied(response), total and total // UNIT, "downloading", have // UNIT):
            pass

    def _copied(self, response: http.client.HTTPResponse) -> Iterator[None]:
        """Append the body, and yield after every mebibyte."""
        done = 0
        with self.path.open("ab", buffering=0) as file:
            while chunk := _received(response):
                done += file.write(chunk)
                if done % UNIT < len(chunk):
                    yield


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
            f"{archive.name} needs {sized(needed)} more on the disk of {folder}, which has {sized(free)};"
            " free some space, or put it elsewhere"
        )


def hash_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def sized(count: float) -> str:
    """Bytes for people: 117 MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.{0 if count >= 1e7 else 1}f} MB"
