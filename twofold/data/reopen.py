"""Open the images of a run that is resumed: find them where they are now, and check that they are still the same."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from twofold.data import cache, pairs
from twofold.data.manifest import Domain, File, Folder, FolderCache, Manifest
from twofold.data.scan import list_files, stat_file
from twofold.data.settings import DataSettings
from twofold.errors import UsageError
from twofold.prefetch import prefetch
from twofold.runs import Notify, Track, untracked


class Given(NamedTuple):
    """The folders that the user has named."""

    a: Path
    b: Path | None
    settings: DataSettings
    """With the folders of held-out images and of masks."""


def reopen(
    manifest: Manifest, before: Given, now: Given, notify: Notify, track: Track = untracked
) -> tuple[Manifest, list[str]]:
    """The manifest with its folders where they are now and their caches opened; and every difference, in one line each.

    Names and sizes are compared first. If they are equal, the content of each file that was moved, or whose time
    differs, is compared by its hash. A file is read once: a cache that must be built is built in the same pass. With
    `verify` "size", no content is compared.

    Args:
        before: the folders as data.json was written for.
        now: the folders to read from, and the settings to read with.

    Returns:
        The manifest to continue with, and the differences. With differences, the manifest must not be used.
    """
    settings = now.settings
    moved = move(manifest, before, now)
    found, lines = _list_all(moved)
    if lines:
        return moved, lines
    by_hash = settings.verify == "hash"
    jobs = [
        (folder if by_hash else _without_hashes(folder), domain.rule(folder, settings, moved.multiple_of))
        for _, folder, domain in moved.folders
    ]
    caches = tuple(cache.open_caches(jobs, settings, notify, verify=False, track=track))
    if not by_hash:
        return replace(moved, caches=caches), []
    for (_, old, _), (label, folder, _), opened in zip(manifest.folders, moved.folders, caches, strict=True):
        doubtful = _doubtful(old, folder, found[id(folder)])
        lines += [f"{label}: {name} was altered" for name in _altered(folder, doubtful, opened, track)]
    return replace(_with_times(moved, found), caches=caches), lines


def move(manifest: Manifest, before: Given, now: Given) -> Manifest:
    """The manifest with each folder at its place of `now`, which `before` had elsewhere."""
    a, b = (_move(label, domain, before, now) for label, domain in (("a", manifest.a), ("b", manifest.b)))
    return replace(manifest, a=a, b=b, caches=None)


def _move(label: str, domain: Domain, before: Given, now: Given) -> Domain:
    first = (label == "a") == (now.settings.direction == "ab")

    def at(folder: Folder) -> Folder:
        kind = "masks" if folder is domain.masks else "val" if folder is domain.val else "train"
        path, source = _place(folder, *(_given(given, label, kind) for given in (before, now)))
        if (path, source) != (folder.path, folder.source):
            cached_as = folder.cached_as or cache.listing_hash(folder)
            folder = replace(folder, path=path, source=source, cached_as=cached_as)
        return _follow_list(folder, column=0 if first else 1)

    moved = domain.with_folders(at)
    names = {old.name: new.name for old, new in zip(domain.folder.files, moved.folder.files, strict=True)}
    return replace(moved, drawn=frozenset(names[name] for name in domain.drawn))


def _follow_list(folder: Folder, column: int) -> Folder:
    """A folder whose list was rewritten, with the names that it now has for its images, row by row.

    Another number of rows is left for `_other_files` to report.
    """
    try:
        if not folder.source or cache.hash_file(folder.path / folder.source) == folder.source_hash:
            return folder
        rows = [row[column] for row in pairs.read_list(folder.path / folder.source)]
    except (UsageError, OSError):
        return folder
    if len(rows) != len(folder.files):
        return folder
    names = {file.name: name for file, name in zip(folder.files, rows, strict=True)}
    return replace(
        folder,
        files=tuple(file._replace(name=names[file.name]) for file in folder.files),
        source_hash=cache.hash_file(folder.path / folder.source),
        without_partner=frozenset(names[name] for name in folder.without_partner),
        cached_as="",  # a cache has the names that it was built with
    )


def _given(given: Given, label: str, kind: str) -> Path:
    """The folder or list that the user has named for the images of A or B: to train on, held out, or their masks."""
    a, b, settings = given
    if kind == "masks" and (masks := settings.masks_a if label == "a" else settings.masks_b):
        return masks
    first = (label == "a") == (settings.direction == "ab")
    val = settings.val_a if first else settings.val_b or settings.val_a
    own = a if first else b or a
    return val if kind == "val" and val else own


def _place(folder: Folder, before: Path, now: Path) -> tuple[Path, str]:
    """Where a folder is now, and the name of its list, as the user now names `now` in place of `before`."""
    old, new = (path.expanduser().resolve() for path in (before, now))
    if folder.source:
        return new.parent, new.name
    if folder.path.is_relative_to(new):
        return folder.path, ""
    inside = folder.path.relative_to(old) if folder.path.is_relative_to(old) else Path()
    return new / inside, ""


Listings = dict[int, dict[str, File]]
"""The files of each folder now, by the `id` of the folder and by name."""


def _list_all(manifest: Manifest) -> tuple[Listings, list[str]]:
    """The files that the folders have now, and what is seen to differ without reading an image."""
    found: Listings = {}
    lines = []
    for label, folder, domain in manifest.folders:
        try:
            found[id(folder)] = _list(folder, listed_only=bool(folder.source) or folder is domain.masks)
            lines += [f"{label}: {line}" for line in _other_files(folder, found[id(folder)])]
        except UsageError as error:
            lines.append(f"{label}: {error}")
        except OSError as error:
            lines.append(f"{label}: {error.filename}: {error.strerror}")
    return found, lines


def _list(folder: Folder, listed_only: bool) -> dict[str, File]:
    """The files of a folder now, by name; `listed_only`: of those that the folder had, as others do not belong to it."""
    if listed_only:
        names = (file.name for file in folder.files)
        files = [stat_file(folder.path, name) for name in names if (folder.path / name).is_file()]
    else:
        files = list_files(folder.path, folder.suffix)
    return {file.name: file for file in files}


def _other_files(folder: Folder, now: dict[str, File]) -> Iterator[str]:
    if folder.source and cache.hash_file(folder.path / folder.source) != folder.source_hash:
        yield f"{folder.source} was altered"
        return
    then = {file.name: file for file in folder.files}
    yield from (f"{name} was added" for name in now if name not in then)
    yield from (f"{name} was removed" for name in then if name not in now)
    both = (name for name in then if name in now)
    yield from (f"{name} was altered" for name in both if now[name].bytes != then[name].bytes)


def _doubtful(old: Folder, folder: Folder, now: dict[str, File]) -> list[File]:
    """The files whose content is to be compared: of a folder that was moved all, otherwise those of another time."""
    is_moved = (folder.path, folder.source_hash) != (old.path, old.source_hash)
    return [
        file for file in folder.files if file.hash and (is_moved or now[file.name].mtime_ns != file.mtime_ns)
    ]


def _altered(folder: Folder, doubtful: Sequence[File], opened: FolderCache, track: Track) -> list[str]:
    """The names of the files whose content differs; reads the `doubtful` ones, unless all were read just now."""
    if opened.read_now:
        wanted = {file.name: file.hash for file in folder.files if file.hash}
        return [file.name for file in opened.files if file.hash != wanted.get(file.name, file.hash)]
    hashes = prefetch(partial(_hash, folder), doubtful, cache.THREADS, depth=2 * cache.THREADS)
    compared = track(zip(doubtful, hashes, strict=True), len(doubtful), f"comparing {folder.path}")
    return [file.name for file, found in compared if found != file.hash]


def _hash(folder: Folder, file: File) -> str:
    """The hash of a file; of an unreadable one empty."""
    try:
        return cache.hash_file(folder.path / file.name)
    except OSError:
        return ""


def _without_hashes(folder: Folder) -> Folder:
    return replace(folder, files=tuple(file._replace(hash="") for file in folder.files))


def _with_times(manifest: Manifest, found: Listings) -> Manifest:
    """The manifest with the times that its files have now, so that the next start need not read them."""

    def timed(folder: Folder) -> Folder:
        now = found[id(folder)]
        files = tuple(file._replace(mtime_ns=now[file.name].mtime_ns) for file in folder.files)
        if files == folder.files:
            return folder
        return replace(folder, files=files, cached_as=folder.cached_as or cache.listing_hash(folder))

    return replace(manifest, a=manifest.a.with_folders(timed), b=manifest.b.with_folders(timed))
