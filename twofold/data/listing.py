"""The frozen list of a run's files: data.json."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twofold.data.cache import Entry, Scan
from twofold.data.dataset import LoadRule, Part
from twofold.data.masks import mask_rule, masks_of
from twofold.data.settings import DataSettings
from twofold.errors import TwofoldError

FORMAT = 1


@dataclass(frozen=True)
class Listing:
    """A folder and every image file in it that belongs to a domain, good and bad."""

    folder: Path
    """Absolute."""
    files: tuple[Entry, ...]
    part: Part = "whole"
    """What of each file is the image."""
    suffix: str = ""
    """The one kind of file in the folder that belongs here; empty: all."""
    source: str = ""
    """The file in the folder that lists the images, and its hash below; empty: all that there are."""
    source_hash: str = ""
    alone: frozenset[str] = frozenset()
    """Names of whole files whose partner in a pair is bad, and which are skipped with it."""

    @property
    def good(self) -> tuple[Entry, ...]:
        return tuple(file for file in self.files if not file.error and file.name not in self.alone)

    @property
    def skipped(self) -> tuple[Entry, ...]:
        return tuple(file for file in self.files if file.error or file.name in self.alone)


@dataclass(frozen=True)
class Side:
    """One domain."""

    listing: Listing
    channels: int
    drawn: frozenset[str]
    """Names in `listing` that are held out."""
    val: Listing | None
    """A folder of its own that is held out."""
    labels: bool = False
    """Whether these are label maps."""
    masks: Listing | None = None
    """What is to be kept of each of `listing.files`, in their order."""

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
    def train_masks(self) -> tuple[Entry, ...]:
        """The masks of `train`, in its order."""
        assert self.masks is not None
        by_name = dict(zip((file.name for file in self.listing.files), self.masks.files, strict=True))
        return tuple(by_name[file.name] for file in self.train)

    @property
    def listings(self) -> list[Listing]:
        return [listing for listing in (self.listing, self.val, self.masks) if listing is not None]

    def rule(self, listing: Listing, settings: DataSettings, multiple_of: int) -> LoadRule:
        """How the files of one of its listings are loaded."""
        if listing is self.masks:
            return mask_rule(settings, multiple_of)
        return LoadRule(settings, self.channels, multiple_of, self.labels, listing.part)


@dataclass(frozen=True)
class Index:
    """Both domains of a run."""

    a: Side
    b: Side
    multiple_of: int
    """What the networks need sizes to be a multiple of; matters where whole images are used."""
    paired: bool = False
    """Whether the images at the same place of `a.train` and `b.train`, and of what is held out, belong together."""
    scans: tuple[Scan, ...] | None = field(default=None, compare=False, repr=False)
    """The caches that `build` has opened; an index from data.json has none."""

    @property
    def epoch(self) -> int:
        """Images in an epoch: those of the larger domain."""
        return max(len(self.a.train), len(self.b.train))

    @property
    def listings(self) -> list[tuple[str, Listing, Side]]:
        """(label, listing, side) of every folder, in the order of `scans`."""
        sides = (("A", self.a), ("B", self.b))
        return [
            (masks_of(label) if listing is side.masks else label, listing, side)
            for label, side in sides
            for listing in side.listings
        ]

    def to_json(self) -> str:
        """The text of data.json."""
        document = {"format": FORMAT, "multiple_of": self.multiple_of, "a": _side(self.a), "b": _side(self.b)}
        return json.dumps(document | {"paired": True} if self.paired else document, indent=1)

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
            a, b = _read_side(document["a"]), _read_side(document["b"])
            return cls(a, b, document["multiple_of"], document.get("paired", False))
        except (ValueError, KeyError, TypeError) as error:
            raise TwofoldError("data.json is damaged; restore it, or start a new run") from error


def _side(side: Side) -> dict[str, Any]:
    val = None if side.val is None else _listing(side.val)
    labels = {"labels": True} if side.labels else {}
    held_out = sorted(side.drawn)
    masks = {"masks": _listing(side.masks)} if side.masks else {}
    head = {"channels": side.channels, **labels, **_listing(side.listing)}
    return head | {"held_out": held_out, "val": val} | masks


def _listing(listing: Listing) -> dict[str, Any]:
    """Without what only pairs have, where it says nothing."""
    own = {"part": listing.part if listing.part != "whole" else "", "suffix": listing.suffix}
    own |= {"source": listing.source, "source_hash": listing.source_hash, "alone": sorted(listing.alone)}
    files = [file._asdict() for file in listing.files]
    return {"folder": str(listing.folder), **{k: v for k, v in own.items() if v}, "files": files}


def _read_side(document: dict[str, Any]) -> Side:
    val = None if document["val"] is None else _read_listing(document["val"])
    masks = _read_listing(document["masks"]) if "masks" in document else None
    listing, drawn = _read_listing(document), frozenset(document["held_out"])
    return Side(listing, document["channels"], drawn, val, document.get("labels", False), masks)


def _read_listing(document: dict[str, Any]) -> Listing:
    return Listing(
        Path(document["folder"]),
        tuple(Entry(**file) for file in document["files"]),
        document.get("part", "whole"),
        document.get("suffix", ""),
        document.get("source", ""),
        document.get("source_hash", ""),
        frozenset(document.get("alone", [])),
    )
