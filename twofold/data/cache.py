"""The cache of decoded images, and the one pass over a folder that fills it and finds the bad files.

A cache is a folder named by the hash of everything its pixels depend on: `pixels.u8`, one image after the
other, and `entries.json`. It is written aside and renamed, so it is whole or not there. The cache folder as a
whole stays under `cache_limit_gb`: the caches not used for longest make room.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twofold.data.dataset import LoadRule, Place, load_shape, read, shaped
from twofold.data.prefetch import prefetch
from twofold.data.settings import DataSettings
from twofold.formats import images

FORMAT = 1
"""Raised whenever the same files would be decoded or laid out differently."""

THREADS = min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
"""How many files are decoded at a time; capped because each may hold `decoding.MAX_PIXELS`."""

_ASIDE = ".building"


class Listed(NamedTuple):
    """A file as its folder shows it."""

    name: str
    """Relative to the folder, with forward slashes."""
    bytes: int
    mtime_ns: int


class Entry(NamedTuple):
    """A file that was read once."""

    name: str
    bytes: int
    mtime_ns: int
    hash: str
    """BLAKE2b of the file, 16 bytes in hexadecimal."""
    width: int
    """Pixels as stored, upright, of the half that is the image; 0 of a bad file."""
    height: int
    error: str
    """Why it cannot be used; empty for a good file."""


class Job(NamedTuple):
    """A folder to be read once."""

    folder: Path
    """Absolute."""
    listed: Sequence[Listed]
    rule: LoadRule
    pixels: int
    """Pixels of all images at load size, estimated."""

    @property
    def bytes(self) -> int:
        return self.pixels * self.rule.channels

    @property
    def key(self) -> str:
        files = sorted((file.name, file.bytes, file.mtime_ns) for file in self.listed)
        text = json.dumps([FORMAT, str(self.folder), self.rule.key(), files])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Scan(NamedTuple):
    """What one pass found, in the order of the job, and the cache it left."""

    entries: list[Entry]
    pixels: Tensor | None
    """uint8 (bytes,), a read-only memory map; None: decode as you go."""
    places: dict[str, Place]


def home(settings: DataSettings) -> Path:
    """The cache folder: `cache_dir`, else $TWOFOLD_CACHE, else twofold in $XDG_CACHE_HOME or ~/.cache."""
    if settings.cache_dir is not None:
        return settings.cache_dir
    if os.environ.get("TWOFOLD_CACHE"):
        return Path(os.environ["TWOFOLD_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twofold"


def open_all(
    jobs: Sequence[Job], settings: DataSettings, notify: Callable[[str], None], *, verify: bool
) -> list[Scan]:
    """Each folder's cache, built where it is missing or damaged.

    Where there is to be none, or it would be too large, one line says so, and the scan has no pixels; with
    `verify` its entries are found by decoding everything all the same, else they are empty. `verify` also reads
    the bad files of an old cache again, in case they were mended without a trace in size and time.
    """
    cache = home(settings)
    opened = [_open(cache / job.key) if settings.cache else None for job in jobs]
    if verify:
        pairs = zip(jobs, opened, strict=True)
        opened = [scan if scan and _still_bad(job, scan) else None for job, scan in pairs]
    if None in opened:
        why = _why_not(jobs, settings)
        if why:
            notify(f"decoding images as they are needed, again in every epoch: {why}")
        else:
            _make_room(cache, jobs, settings.cache_limit_gb * 1e9)
        into = None if why else cache
        return [scan or _scan(job, into, notify, verify) for job, scan in zip(jobs, opened, strict=True)]
    return [scan for scan in opened if scan is not None]


def _still_bad(job: Job, scan: Scan) -> bool:
    bad = [Listed(*entry[:3]) for entry in scan.entries if entry.error]
    return all(_read(job, file, keep=False)[0].error for file in bad)


def _why_not(jobs: Sequence[Job], settings: DataSettings) -> str:
    if not settings.cache:
        return "the cache is off"
    limit, needed, free = settings.cache_limit_gb, sum(job.bytes for job in jobs), _free(home(settings))
    if needed > limit * 1e9:
        return f"they take {_gb(needed)} decoded, over the cache's {limit:g} GB (data.cache_limit_gb)"
    if needed > free / 2:
        return f"they take {_gb(needed)} decoded, over half of the {_gb(free)} free in {home(settings)}"
    return ""


def _free(folder: Path) -> int:
    existing = next((f for f in (folder, *folder.absolute().parents) if f.is_dir()), Path.cwd())
    return shutil.disk_usage(existing).free


def _gb(count: float) -> str:
    return f"{count / 1e9:.3g} GB"


def _scan(job: Job, cache: Path | None, notify: Callable[[str], None], verify: bool) -> Scan:
    if cache is not None:
        try:
            return _build(job, cache / job.key)
        except OSError as error:
            reason = error.strerror or error
            notify(f"decoding images as they are needed: cannot write the cache in {cache} ({reason})")
    return Scan(_read_all(job, None)[0] if verify else [], None, {})


# ---- the folder of one cache


def _open(folder: Path) -> Scan | None:
    """A whole cache, else None: missing, short, damaged or of another format."""
    try:
        document = json.loads((folder / "entries.json").read_bytes())
        if document["format"] != FORMAT or document["bytes"] != (folder / "pixels.u8").stat().st_size:
            return None
        entries = [Entry(*row) for row in document["entries"]]
        places = {name: Place(*place) for name, place in document["places"].items()}
        pixels = _map(folder / "pixels.u8") if document["bytes"] else torch.empty(0, dtype=torch.uint8)
        os.utime(folder)  # the least recently used goes first
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Scan(entries, pixels, places)


def _map(path: Path) -> Tensor:
    # Read-only: a writable private map of more than the machine's memory is refused by Linux.
    flat = np.memmap(path, dtype=np.uint8, mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.from_numpy(flat)


def _build(job: Job, target: Path) -> Scan:
    aside = target.with_name(f"{target.name}.{secrets.token_hex(4)}{_ASIDE}")
    try:
        aside.mkdir(parents=True)
        with (aside / "unlocked").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            (aside / "unlocked").rename(aside / "pixels.u8")  # from here on, what nobody locks is swept away
            entries, places = _read_all(job, file)
            _sync(file)
            with (aside / "entries.json").open("w") as index:
                json.dump(
                    {"format": FORMAT, "bytes": file.tell(), "entries": entries, "places": places}, index
                )
                _sync(index)
            built = _open(aside)
            if built is None:
                raise OSError("what was written does not read back")
            return _put(aside, target, built)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _put(aside: Path, target: Path, built: Scan) -> Scan:
    """Rename into place, unless another process was first with the same."""
    standing = _open(target)
    if standing is not None and standing.entries == built.entries:
        return standing
    if target.exists():
        _remove(target)
    aside.rename(target)
    return built


def _remove(cache: Path) -> None:
    gone = cache.with_name(f"{cache.name}.{secrets.token_hex(4)}{_ASIDE}")
    cache.rename(gone)  # at once, for whoever looks
    shutil.rmtree(gone, ignore_errors=True)


def _make_room(cache: Path, jobs: Sequence[Job], limit: float) -> None:
    """Sweep away what killed builders left, and as many of the least recently used caches as it takes."""
    for left in cache.glob(f"*{_ASIDE}"):
        if _abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    wanted = {job.key for job in jobs}
    excess = sum(job.bytes for job in jobs) - limit
    with suppress(OSError):  # another process may be sweeping too
        others = [path.parent for path in cache.glob("*/pixels.u8") if path.parent.suffix != _ASIDE]
        sizes = {path: (path / "pixels.u8").stat().st_size for path in others if path.name not in wanted}
        excess += sum(sizes.values())
        for path in sorted(sizes, key=lambda path: path.stat().st_mtime_ns):
            if excess <= 0:
                return
            _remove(path)
            excess -= sizes[path]


def _abandoned(aside: Path) -> bool:
    try:
        with (aside / "pixels.u8").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:
        return False


# ---- the pass over the files


def _read_all(job: Job, pixels: BinaryIO | None) -> tuple[list[Entry], dict[str, Place]]:
    """Decode every file once, in order; with `pixels`, append each good image at load size."""
    entries: list[Entry] = []
    places: dict[str, Place] = {}

    def once(file: Listed) -> tuple[Entry, NDArray[np.uint8] | None]:
        return _read(job, file, keep=pixels is not None)

    for entry, image in prefetch(once, job.listed, THREADS, depth=2 * THREADS):
        entries.append(entry)
        if pixels is not None and image is not None:
            places[entry.name] = Place(pixels.tell(), image.shape[0], image.shape[1])
            pixels.write(np.ascontiguousarray(image).data)
    return entries, places


def _read(job: Job, file: Listed, keep: bool) -> tuple[Entry, NDArray[np.uint8] | None]:
    path = job.folder / file.name
    digest = ""
    try:
        digest = hash_file(path)
        image = read(path, job.rule)
    except (images.ImageError, OSError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        return Entry(*file, digest, 0, 0, reason), None
    height, width = image.shape[:2]
    return Entry(*file, digest, width, height, ""), shaped(image, job.rule) if keep else None


def hash_file(path: Path) -> str:
    """BLAKE2b of a file's bytes, 16 bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def loaded_pixels(sizes: Sequence[tuple[int, int]], rule: LoadRule) -> int:
    """Pixels at load size of images of these (width, height)."""
    shapes = (load_shape(width, height, rule.settings, rule.multiple_of) for width, height in sizes)
    return sum(height * width for height, width in shapes)
