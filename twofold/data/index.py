"""Which files a run trains on and which it holds out, found once and frozen in data.json."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from twofold.data import cache
from twofold.data.cache import Entry, Job, Listed, Scan, loaded_pixels
from twofold.data.dataset import ImageStore, LoadRule
from twofold.data.sampler import Domain
from twofold.data.settings import DataSettings
from twofold.data.survey import (
    Survey,
    choose_channels,
    counted,
    duplicates,
    list_files,
    notes,
    shared,
    some,
    survey,
    too_small,
)
from twofold.errors import TwofoldError, UsageError
from twofold.randomness import generator

FORMAT = 1

ENOUGH = 0.95
"""The share of a folder's files that must decode."""


@dataclass(frozen=True)
class Listing:
    """A folder and every image file in it, good and bad."""

    folder: Path
    """Absolute."""
    files: tuple[Entry, ...]

    @property
    def good(self) -> tuple[Entry, ...]:
        return tuple(file for file in self.files if not file.error)

    @property
    def skipped(self) -> tuple[Entry, ...]:
        return tuple(file for file in self.files if file.error)


@dataclass(frozen=True)
class Side:
    """One domain."""

    listing: Listing
    channels: int
    drawn: frozenset[str]
    """Names in `listing` that are held out."""
    val: Listing | None
    """A folder of its own that is held out."""

    @property
    def train(self) -> tuple[Entry, ...]:
        """The files to train on, in natural order."""
        return tuple(file for file in self.listing.good if file.name not in self.drawn)

    @property
    def held_out(self) -> tuple[Entry, ...]:
        """The files to judge by, in natural order; maybe none."""
        if self.val is not None:
            return self.val.good
        return tuple(file for file in self.listing.good if file.name in self.drawn)

    @property
    def listings(self) -> list[Listing]:
        return [self.listing] if self.val is None else [self.listing, self.val]


@dataclass(frozen=True)
class Index:
    """Both domains of a run."""

    a: Side
    b: Side
    multiple_of: int
    """What the networks need sizes to be a multiple of; matters where whole images are used."""
    scans: tuple[Scan, ...] | None = field(default=None, compare=False, repr=False)
    """The caches that `build` has opened; an index from data.json has none."""

    @property
    def epoch(self) -> int:
        """Images in an epoch: those of the larger domain."""
        return max(len(self.a.train), len(self.b.train))

    @property
    def listings(self) -> list[tuple[str, Listing, int]]:
        """(label, listing, channels) of every folder, in the order of `scans`."""
        sides = (("A", self.a), ("B", self.b))
        return [(label, listing, side.channels) for label, side in sides for listing in side.listings]

    def to_json(self) -> str:
        """The text of data.json."""
        document = {"format": FORMAT, "multiple_of": self.multiple_of, "a": _side(self.a), "b": _side(self.b)}
        return json.dumps(document, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Index":
        """Read data.json.

        Raises:
            TwofoldError: it is damaged, or of a newer format.
        """
        try:
            document = json.loads(text)
            if document["format"] > FORMAT:
                raise TwofoldError("data.json was written by a newer twofold; update this one")
            return cls(_read_side(document["a"]), _read_side(document["b"]), document["multiple_of"])
        except (ValueError, KeyError, TypeError) as error:
            raise TwofoldError("data.json is damaged; restore it, or start a new run") from error


def _side(side: Side) -> dict[str, Any]:
    val = None if side.val is None else _listing(side.val)
    return {"channels": side.channels, **_listing(side.listing), "held_out": sorted(side.drawn), "val": val}


def _listing(listing: Listing) -> dict[str, Any]:
    return {"folder": str(listing.folder), "files": [file._asdict() for file in listing.files]}


def _read_side(document: dict[str, Any]) -> Side:
    val = None if document["val"] is None else _read_listing(document["val"])
    return Side(_read_listing(document), document["channels"], frozenset(document["held_out"]), val)


def _read_listing(document: dict[str, Any]) -> Listing:
    return Listing(Path(document["folder"]), tuple(Entry(**file) for file in document["files"]))


# ---- building


def build(
    folder_a: Path,
    folder_b: Path,
    settings: DataSettings,
    seed: int,
    say: Callable[[str], None],
    *,
    multiple_of: int = 4,
) -> Index:
    """Read both folders once: verify every file, fill the cache, choose what is held out.

    Bad files are skipped and said; so is what is worth knowing (duplicates, 16 bits, alpha).

    Args:
        seed: of the run; it draws the held-out images.
        multiple_of: what the networks need sizes to be a multiple of.

    Raises:
        UsageError: a folder is missing, empty or inside another, or an image is too small.
        TwofoldError: under 95 % of a folder's files decode.
    """
    every = [("A", folder_a), ("A", settings.val_a), ("B", folder_b), ("B", settings.val_b)]
    folders = [(label, folder) for label, folder in every if folder is not None]
    refuse_nesting([folder for _, folder in folders])
    surveys = [survey(label, folder) for label, folder in folders]
    channels = {
        "A": choose_channels(surveys[0], settings.channels_a),
        "B": choose_channels(next(found for found in surveys if found.label == "B"), settings.channels_b),
    }
    for found in surveys:
        _refuse_small(found, settings, multiple_of)
        for line in notes(found, channels[found.label]):
            say(line)
    jobs = [found.job(LoadRule(settings, channels[found.label], multiple_of)) for found in surveys]
    scans = cache.open_all(jobs, settings, say, verify=True)
    listings: dict[str, list[Listing]] = {"A": [], "B": []}
    for found, scan in zip(surveys, scans, strict=True):
        listings[found.label].append(Listing(found.folder, tuple(scan.entries)))
        _judge(found.label, listings[found.label][-1], say)
    a = _make_side("a", listings["A"], channels["A"], settings, seed)
    b = _make_side("b", listings["B"], channels["B"], settings, seed)
    _say_duplicates(a.listing, b.listing, say)
    return Index(a, b, multiple_of, tuple(scans))


def refuse_nesting(folders: Sequence[Path]) -> None:
    """Raise UsageError where two folders are the same, or one holds the other."""
    resolved = [folder.expanduser().resolve() for folder in folders]
    for i, one in enumerate(resolved):
        for other in resolved[i + 1 :]:
            if one == other:
                raise UsageError(f"{one} is given twice; each domain needs a folder of its own")
            if one in other.parents or other in one.parents:
                inner, outer = sorted((one, other), key=lambda path: len(path.parts), reverse=True)
                raise UsageError(f"{inner} lies inside {outer}, so both would see its images; move one out")


def _refuse_small(found: Survey, settings: DataSettings, multiple_of: int) -> None:
    small = too_small(found, settings, multiple_of)
    if small:
        facts = found.facts[small[0]]
        least = f"the crop ({settings.size})" if settings.resize == "crop" else f"the network's {multiple_of}"
        raise UsageError(
            f"{found.label}: {counted(small)} smaller than {least} ({some(small)}: {facts.width} x "
            f"{facts.height}); take them out, lower data.size, or set data.resize to resize-and-crop"
        )


def _judge(label: str, listing: Listing, say: Callable[[str], None]) -> None:
    """Say which files are skipped; stop where they are too many."""
    bad = listing.skipped
    named = [f"{file.name} ({file.error})" for file in bad]
    if len(listing.good) < ENOUGH * len(listing.files):
        raise TwofoldError(
            f"{label}: only {len(listing.good):,} of {len(listing.files):,} files in {listing.folder} decode, "
            f"95 % must; mend or remove {some(named, 10)}"
        )
    for name in named[:20]:
        say(f"{label}: skipped {name}")
    if bad:
        say(f"{label}: skipped {len(bad):,} of {len(listing.files):,} files in all")


def _make_side(
    domain: Domain, listings: Sequence[Listing], channels: int, settings: DataSettings, seed: int
) -> Side:
    listing, val = listings[0], listings[1] if len(listings) > 1 else None
    hold_out = settings.hold_out and val is None
    return Side(
        listing, channels, draw_held_out(listing.good, seed, domain) if hold_out else frozenset(), val
    )


def draw_held_out(files: Sequence[Entry], seed: int, domain: Domain) -> frozenset[str]:
    """The names held out of training: 5 %, at least 8 and at most 100; none of fewer than 40 files."""
    if len(files) < 40:
        return frozenset()
    count = min(100, max(8, round(len(files) * 0.05)))
    drawn = generator("held-out", seed, domain).choice(len(files), count, replace=False)
    return frozenset(files[i].name for i in drawn)


def _say_duplicates(a: Listing, b: Listing, say: Callable[[str], None]) -> None:
    for label, listing in (("A", a), ("B", b)):
        extra = [name for names in duplicates(listing.good) for name in names[1:]]
        if extra:
            say(f"{label}: {counted(extra)} stored twice or more, and seen more often for it ({some(extra)})")
    both = shared(a.good, b.good)
    if both:
        say(f"{counted(both)} of A in B as well, which teaches nothing; take them out of one ({some(both)})")


# ---- opening


class Stores(NamedTuple):
    """The images of a run, ready to be read."""

    a: ImageStore
    b: ImageStore
    held_out_a: ImageStore
    """Maybe empty."""
    held_out_b: ImageStore


def open_stores(index: Index, settings: DataSettings, say: Callable[[str], None]) -> Stores:
    """The images of an index, cached where `settings` and the disk allow.

    Raises:
        TwofoldError: the cache had to be built again, and files that once decoded no longer do.
    """
    rules = [LoadRule(settings, channels, index.multiple_of) for _, _, channels in index.listings]
    jobs = [_job(listing, rule) for (_, listing, _), rule in zip(index.listings, rules, strict=True)]
    scans = index.scans or cache.open_all(jobs, settings, say, verify=False)
    found = {job.folder: (job.rule, scan) for job, scan in zip(jobs, scans, strict=True)}

    def store(listing: Listing, files: Sequence[Entry]) -> ImageStore:
        rule, scan = found[listing.folder]
        missing = [file.name for file in files if file.name not in scan.places]
        if scan.pixels is not None and missing:
            raise TwofoldError(f"{listing.folder}: {some(missing)} no longer decodes; restore it")
        places = [scan.places[file.name] for file in files] if scan.pixels is not None else []
        return ImageStore([listing.folder / file.name for file in files], rule, scan.pixels, places)

    a, b = index.a, index.b
    return Stores(
        store(a.listing, a.train),
        store(b.listing, b.train),
        store(a.val or a.listing, a.held_out),
        store(b.val or b.listing, b.held_out),
    )


def _job(listing: Listing, rule: LoadRule) -> Job:
    listed = [Listed(*file[:3]) for file in listing.files]
    sizes = [(file.width, file.height) for file in listing.good]
    return Job(listing.folder, listed, rule, loaded_pixels(sizes, rule))


def changes(index: Index) -> list[str]:
    """What was added, removed or altered in the folders since, one line a file; nothing if all is as it was.

    A file whose time alone differs is read, and counts as altered only if its content differs.
    """
    return [line for label, listing, _ in index.listings for line in _changes(label, listing)]


def _changes(label: str, listing: Listing) -> list[str]:
    try:
        now = {file.name: file for file in list_files(listing.folder)}
    except UsageError as error:
        return [f"{label}: {error}"]
    then = {file.name: file for file in listing.files}
    lines = [f"{label}: {name} was added" for name in now if name not in then]
    lines += [f"{label}: {name} was removed" for name in then if name not in now]
    both = [(now[name], then[name]) for name in then if name in now]
    altered = [new.name for new, old in both if _altered(listing.folder, new, old)]
    return lines + [f"{label}: {name} was altered" for name in altered]


def _altered(folder: Path, new: Listed, old: Entry) -> bool:
    if new.bytes != old.bytes:
        return True
    return new.mtime_ns != old.mtime_ns and cache.hash_file(folder / new.name) != old.hash
