"""The cache of decoded images, and the one pass over a folder that fills it and finds the bad files.

A cache is one file, named by the hash of everything its pixels depend on: the images one after the other, then a
JSON index, then the length of the index in 8 bytes.
"""

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from twofold.data import labels, ranges
from twofold.data.geometry import LoadRule, read_part, to_load_size
from twofold.data.labels import Seen
from twofold.data.manifest import File, Folder, FolderCache, Place
from twofold.data.settings import DataSettings
from twofold.errors import TwofoldError
from twofold.files import lock, replacing
from twofold.formats.contract import Pixels
from twofold.formats.images import ImageError
from twofold.prefetch import prefetch
from twofold.runs import Notify, Track, untracked

FORMAT = 3
"""Raised whenever the same files would be decoded or laid out differently."""

THREADS = min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
"""How many files are decoded at a time; more than 16 wait for the disk."""

IN_FLIGHT = 2**30
"""Bytes of decoded images that may be in memory at a time while a folder is read; a larger image is read alone."""

Job = tuple[Folder, LoadRule]


def home(settings: DataSettings) -> Path:
    """The cache folder: `cache_dir`, else $TWOFOLD_CACHE, else twofold in $XDG_CACHE_HOME or ~/.cache."""
    if settings.cache_dir is not None:
        return settings.cache_dir
    shared = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("TWOFOLD_CACHE") or shared / "twofold")


def open_caches(
    jobs: Sequence[Job], settings: DataSettings, notify: Notify, *, verify: bool, track: Track = untracked
) -> list[FolderCache]:
    """Open the cache of each folder, and build those that are missing or damaged.

    The result has no pixels if the cache is off, would be too large, or cannot be written; `notify` is called with
    the reason, once.

    Args:
        verify: find out which files are bad even without a cache, and read the bad files of an old cache again, in
            case they were repaired without a change of size and time.
    """
    notify = lru_cache(maxsize=None)(notify)  # each line once, whichever folder it is about
    paths = [home(settings) / f"{_key(job)}.pixels" for job in jobs]
    opened = [
        _open(path, job, verify) if settings.cache else None for path, job in zip(paths, jobs, strict=True)
    ]
    if None in opened:
        if reason := _why_no_cache(jobs, settings):
            notify(f"decoding images as they are needed, again in every epoch: {reason}")
            return [
                found or _read_uncached(job, verify, track) for job, found in zip(jobs, opened, strict=True)
            ]
        _make_room(home(settings), set(paths), sum(map(_decoded_bytes, jobs)) - settings.cache_limit_gb * 1e9)
    return [
        found or _build(path, job, notify, verify, track)
        for path, job, found in zip(paths, jobs, opened, strict=True)
    ]


def _key(job: Job) -> str:
    folder, rule = job
    return _hash_text(json.dumps([FORMAT, folder.cached_as or listing_hash(folder), rule.key()]))


def listing_hash(folder: Folder) -> str:
    """The hash of a folder's place and of the names, sizes and times of its files."""
    return _hash_text(json.dumps([str(folder.path), sorted(file[:3] for file in folder.files)]))


def _hash_text(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _why_no_cache(jobs: Sequence[Job], settings: DataSettings) -> str:
    if not settings.cache:
        return "the cache is off"
    limit, needed, folder = settings.cache_limit_gb, sum(map(_decoded_bytes, jobs)), home(settings)
    if needed > limit * 1e9:
        return f"they take {_gb(needed)} decoded, over the cache's {limit:g} GB (data.cache_limit_gb)"
    free = shutil.disk_usage(
        next(each for each in (folder, *folder.absolute().parents) if os.access(each, os.R_OK))
    ).free
    if needed > free / 2:
        return f"they take {_gb(needed)} decoded, over half of the {_gb(free)} free in {folder}"
    return ""


def _decoded_bytes(job: Job) -> int:
    """The bytes of a folder's images at load size, as far as their sizes are known."""
    folder, rule = job
    shapes = (rule.shape(file.width, file.height) for file in folder.files if file.width)
    value = np.dtype(rule.contract.dtype).itemsize
    return rule.contract.channels * value * sum(height * width for height, width in shapes)


def _gb(count: float) -> str:
    return f"{count / 1e9:.3g} GB"


# ---- the file of one cache


def _open(path: Path, job: Job, verify: bool) -> FolderCache | None:
    """A whole cache; None if it is missing, short, damaged or of another format, or outdated.

    It is outdated if its images are not those of the hashes in `job`, or if `verify` finds a repaired file.
    """
    try:
        with path.open("rb") as file:
            file.seek(-8, os.SEEK_END)
            length = int.from_bytes(file.read(8), "little")
            size = file.seek(-8 - length, os.SEEK_END)
            index = json.loads(file.read(length))
        if (index["format"], index["dtype"], index["bytes"]) != (FORMAT, job[1].contract.dtype, size):
            return None
        files = tuple(File(*row) for row in index["files"])
        places = {name: (offset, height, width) for name, (offset, height, width) in index["places"].items()}
        pixels = _map(path, size)
        stats = _stats_at_end(pixels, len(files), job[1])
        seen = (
            {name: labels.from_json(row) for name, row in index["seen"].items()} if "seen" in index else None
        )
        with suppress(OSError):  # a shared cache may be read-only
            os.utime(path)  # the least recently used is removed first
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
        return None
    wanted = {file.name: file.hash for file in job[0].files if file.hash}
    if any(file.hash != wanted.get(file.name, file.hash) for file in files):
        return None
    repaired = verify and any(not _read(job, file, keep=False)[0].error for file in files if file.error)
    return None if repaired else FolderCache(files, pixels, places, stats, seen)


def _stats_at_end(pixels: Tensor, count: int, rule: LoadRule) -> Pixels | None:
    """The summaries that follow the images in a cache."""
    if not rule.summarised:
        return None
    shape = (count, rule.contract.channels, ranges.COLUMNS)
    size = math.prod(shape) * np.dtype(rule.contract.dtype).itemsize
    return pixels[len(pixels) - size :].numpy().view(rule.contract.dtype).reshape(shape)


def _map(path: Path, size: int) -> Tensor:
    if size == 0:
        return torch.empty(0, dtype=torch.uint8)
    # Read-only: Linux refuses a writable private map of more than the machine's memory.
    with warnings.catch_warnings(action="ignore"):
        return torch.from_numpy(np.memmap(path, np.uint8, mode="r", shape=(size,)))


def _build(path: Path, job: Job, notify: Notify, verify: bool, track: Track) -> FolderCache:
    """Build a cache, or wait for the process that builds it; read without one if the disk refuses."""
    try:
        with lock(_lock_of(path), "waiting for a process that decodes the same images", wait=notify):
            if standing := _open(path, job, verify):
                return standing
            with replacing(path, durable=True) as aside, aside.open("wb") as file:
                files, places, stats, seen = _read_files(job, file, track)
                file.write(b"" if stats is None else stats.tobytes())
                index = {"format": FORMAT, "dtype": job[1].contract.dtype, "bytes": file.tell()}
                index |= {"files": files, "places": places} | ({} if seen is None else {"seen": seen})
                text = json.dumps(index).encode()
                file.write(text + len(text).to_bytes(8, "little"))
            if built := _open(path, (replace(job[0], files=()), job[1]), verify=False):
                return built._replace(read_now=True)
            raise OSError("the written file does not read back")
    except OSError as error:
        reason = error.strerror or error
        notify(f"decoding images as they are needed: cannot write the cache in {path.parent} ({reason})")
        return _read_uncached(job, verify, track)


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.stem.removeprefix('.')}.lock")


def _read_uncached(job: Job, verify: bool, track: Track) -> FolderCache:
    files, _, stats, seen = _read_files(job, None, track) if verify else ((), {}, None, None)
    return FolderCache(files, None, {}, stats, seen, read_now=verify)


def _make_room(folder: Path, wanted: set[Path], excess: float) -> None:
    """Remove the files that killed processes left, and the least recently used caches.

    Args:
        wanted: caches that stay.
        excess: by how many bytes `wanted` alone would exceed the limit (usually negative).
    """
    with suppress(OSError):  # another process may remove files too, or the folder may be read only
        for old in folder.glob("*/pixels.u8"):  # of twofold 0.1
            shutil.rmtree(old.parent, ignore_errors=True)
        every = list(folder.glob("*.pixels"))
        for left in (path for path in every if path.name.startswith(".")):
            with suppress(TwofoldError), lock(_lock_of(left), "in use"):
                left.unlink()
        found = {path: path.stat() for path in every if path not in wanted and not path.name.startswith(".")}
        excess += sum(stat.st_size for stat in found.values())
        for path, stat in sorted(found.items(), key=lambda item: item[1].st_mtime_ns):
            if excess <= 0:
                return
            path.unlink()
            excess -= stat.st_size


# ---- the pass over the files


def _read_files(
    job: Job, pixels: BinaryIO | None, track: Track
) -> tuple[tuple[File, ...], dict[str, Place], Pixels | None, dict[str, Seen] | None]:
    """Decode every file once, in order; with `pixels`, append each good image at load size; see `FolderCache`."""
    folder, rule = job
    places: dict[str, Place] = {}
    none = np.zeros((rule.contract.channels, ranges.COLUMNS), rule.contract.dtype)
    stats: list[Pixels] = []
    seen: dict[str, Seen] = {}
    read = partial(_read, job, keep=pixels is not None)
    size = partial(_image_bytes, job)

    def stored() -> Iterator[File]:
        for file, image, summary in prefetch(
            read, folder.files, THREADS, depth=2 * THREADS, cost=size, limit=IN_FLIGHT
        ):
            if isinstance(summary, Seen):
                seen[file.name] = summary
            else:
                stats.append(none if summary is None else summary)
            if pixels is not None and image is not None:
                places[file.name] = pixels.tell(), image.shape[0], image.shape[1]
                pixels.write(np.ascontiguousarray(image).view(np.uint8).data)
            del image  # so that it is not in memory beside the next
            yield file

    files = tuple(track(stored(), len(folder.files), f"reading {folder.path}"))
    labelled = rule.contract.is_labels
    return files, places, np.stack(stats) if rule.summarised else None, seen if labelled else None


def _image_bytes(job: Job, file: File) -> int:
    """The bytes of a decoded file, by its header."""
    folder, rule = job
    facts = folder.facts.get(file.name)
    if facts is not None:
        return facts.width * facts.height * facts.channels * np.dtype(facts.dtype).itemsize
    halves = 2 if folder.part in ("left", "right") else 1
    return file.width * halves * file.height * rule.contract.channels * np.dtype(rule.contract.dtype).itemsize


def _read(job: Job, file: File, keep: bool) -> tuple[File, Pixels | None, Pixels | Seen | None]:
    """Hash and decode one file; with its image at load size if `keep`, and what its values are, as far as needed."""
    folder, rule = job
    path, digest = folder.path / file.name, ""
    try:
        content = path.read_bytes()
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        image = read_part(path, rule, content)
    except (ImageError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error).removeprefix(f"{path}: ")
        return file._replace(hash=digest, width=0, height=0, error=reason), None, None
    read = file._replace(hash=digest, width=image.shape[1], height=image.shape[0], error="")
    return read, to_load_size(image, rule) if keep else None, _summary(image, file.name, rule)


def _summary(image: Pixels, name: str, rule: LoadRule) -> Pixels | Seen | None:
    if rule.contract.is_labels:
        return labels.look_at(image, name)
    return ranges.summarise(image) if rule.summarised else None


def hash_file(path: Path) -> str:
    """BLAKE2b of a file's bytes, 16 bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
