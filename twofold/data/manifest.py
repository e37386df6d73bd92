"""The manifest of a run: which files it trains on and which it holds out, and how they are loaded; data.json."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from twofold.data.geometry import LoadRule, Part
from twofold.data.labels import Seen
from twofold.data.settings import DataSettings
from twofold.errors import TwofoldError
from twofold.formats.contract import Contract, Pixels
from twofold.formats.images import Facts
from twofold.formats.scale import Geometry

FORMAT = 2
"""1 had only the channels of a domain, of uint8 pictures."""

Place = tuple[int, int, int]
"""Where an image lies in the pixels of a cache: offset in bytes, height, width."""


class File(NamedTuple):
    """One image file."""

    name: str
    """Relative to its folder, with forward slashes."""
    bytes: int
    mtime_ns: int
    hash: str = ""
    """BLAKE2b of the content, 16 bytes in hexadecimal; empty until it was read."""
    width: int = 0
    """Pixels, upright, of the part that is the image; 0 if the file cannot be read."""
    height: int = 0
    error: str = ""
    """Why the file cannot be used; empty for a good file."""


@dataclass(frozen=True)
class Folder:
    """A folder and every image file in it that belongs to a domain, good and bad."""

    path: Path
    """Absolute, symbolic links resolved."""
    files: tuple[File, ...]
    part: Part = "whole"
    suffix: str = ""
    """The one suffix in the folder that belongs here; empty: all."""
    source: str = ""
    """The list in the folder that names the images; empty: the images are all that the folder holds."""
    source_hash: str = ""
    without_partner: frozenset[str] = frozenset()
    """Names of good files whose partner in a pair is bad; they are skipped."""
    cached_as: str = ""
    """`cache.listing_hash` at the first start, where the folder was moved or its files have other times since."""
    facts: Mapping[str, Facts] = field(default_factory=dict, compare=False, repr=False)
    """By name, the header of each file that has a readable one; not in data.json."""

    @property
    def good(self) -> tuple[File, ...]:
        return tuple(file for file in self.files if not self._is_skipped(file))

    @property
    def skipped(self) -> tuple[File, ...]:
        return tuple(file for file in self.files if self._is_skipped(file))

    def _is_skipped(self, file: File) -> bool:
        return bool(file.error) or file.name in self.without_partner


class FolderCache(NamedTuple):
    """The result of reading a folder once."""

    files: tuple[File, ...]
    pixels: Tensor | None
    """The bytes of all images, uint8 (bytes,), a read-only memory map; None: no cache, so decode each when needed."""
    places: dict[str, Place]
    stats: Pixels | None = None
    """A row of `ranges.summarise` for each file, zeros for a bad one; None: the range needs none, or nothing was read."""
    seen: Mapping[str, Seen] | None = None
    """The values of each good file of label maps; None for other images, or if nothing was read."""
    read_now: bool = False
    """Whether `files` are the result of reading them just now, not of an earlier start."""


@dataclass(frozen=True)
class Domain:
    """The images of A or of B."""

    folder: Folder
    contract: Contract
    """What the pixels of its images are."""
    drawn: frozenset[str]
    """Names in `folder` that were drawn to be held out."""
    val: Folder | None
    """A separate folder of held-out images."""
    labels: bool = False
    """Whether these are label maps, resized to the nearest pixel."""
    masks: Folder | None = None
    """The masks of `folder.files`, in their order."""

    @property
    def channels(self) -> int:
        return self.contract.channels

    @property
    def train(self) -> tuple[File, ...]:
        """The files to train on, in natural order."""
        return tuple(file for file in self.folder.good if file.name not in self.drawn)

    @property
    def held_out(self) -> tuple[File, ...]:
        """The held-out files, in natural order; may be empty."""
        if self.val is not None:
            return self.val.good
        return tuple(file for file in self.folder.good if file.name in self.drawn)

    @property
    def train_masks(self) -> tuple[File, ...]:
        """The masks of `train`, in its order."""
        assert self.masks is not None
        by_name = dict(zip((file.name for file in self.folder.files), self.masks.files, strict=True))
        return tuple(by_name[file.name] for file in self.train)

    def with_folders(self, change: Callable[[Folder], Folder]) -> "Domain":
        val, masks = (own and change(own) for own in (self.val, self.masks))
        return replace(self, folder=change(self.folder), val=val, masks=masks)

    def rule(self, folder: Folder, settings: DataSettings, multiple_of: int) -> LoadRule:
        """How the files of `folder`, one of this domain's, are loaded."""
        if folder is self.masks:
            return mask_rule(settings, multiple_of)
        return LoadRule(settings, self.contract, multiple_of, folder.part, self.labels)


def mask_rule(settings: DataSettings, multiple_of: int) -> LoadRule:
    """How masks are loaded: as one channel, to the nearest pixel, at the size of their images."""
    return LoadRule(settings, Contract(channels=1), multiple_of, labels=True)


def masks_of(label: str) -> str:
    return f"masks of {label}"


@dataclass(frozen=True)
class Manifest:
    """Both domains of a run."""

    a: Domain
    b: Domain
    multiple_of: int
    """The networks need sizes to be a multiple of this; matters where whole images are used."""
    paired: bool = False
    """Whether the images at the same place of `a.train` and `b.train`, and of both `held_out`, are a pair."""
    geometry: Geometry | None = None
    """At which size images are loaded; None in data.json of format 1, where config.yaml alone says it."""
    caches: tuple[FolderCache, ...] | None = field(default=None, compare=False, repr=False)
    """The opened cache of each of `folders`; None after `from_json`."""

    @property
    def epoch(self) -> int:
        """Images in an epoch: those of the larger domain."""
        return max(len(self.a.train), len(self.b.train))

    @property
    def folders(self) -> list[tuple[str, Folder, Domain]]:
        """(label, folder, domain) of every folder, in the order of `caches`."""
        return [
            (masks_of(label) if folder is domain.masks else label, folder, domain)
            for label, domain in (("A", self.a), ("B", self.b))
            for folder in (domain.folder, domain.val, domain.masks)
            if folder is not None
        ]

    def to_json(self) -> str:
        head: dict[str, Any] = {"format": FORMAT, "multiple_of": self.multiple_of}
        if self.geometry is not None:
            head["geometry"] = self.geometry._asdict()
        document = head | {"a": _domain_to_dict(self.a), "b": _domain_to_dict(self.b)}
        return json.dumps(document | {"paired": True} if self.paired else document, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read data.json.

        Raises:
            TwofoldError: it is damaged, or of a newer format.
        """
        try:
            document = json.loads(text)
            if document["format"] > FORMAT:
                raise TwofoldError("data.json was written by a newer twofold; update this one")
            a, b = _domain_from_dict(document["a"]), _domain_from_dict(document["b"])
            geometry = document.get("geometry") and Geometry(**document["geometry"])
            return cls(a, b, document["multiple_of"], document.get("paired", False), geometry)
        except (ValueError, KeyError, TypeError) as error:
            raise TwofoldError("data.json is damaged; restore it, or start a new run") from error


def _domain_to_dict(domain: Domain) -> dict[str, Any]:
    labels = {"labels": True} if domain.labels else {}
    head = {"contract": domain.contract.to_dict(), **labels, **_folder_to_dict(domain.folder)}
    val = None if domain.val is None else _folder_to_dict(domain.val)
    masks = {"masks": _folder_to_dict(domain.masks)} if domain.masks else {}
    return head | {"held_out": sorted(domain.drawn), "val": val} | masks


RARE = ("part", "suffix", "source", "source_hash", "cached_as")
"""The fields of a folder that data.json leaves out where they have their default."""


def _folder_to_dict(folder: Folder) -> dict[str, Any]:
    rare = {name: getattr(folder, name) for name in RARE} | {"alone": sorted(folder.without_partner)}
    rare = {key: value for key, value in rare.items() if value and value != "whole"}
    return {"folder": folder.path.as_posix(), **rare, "files": [file._asdict() for file in folder.files]}


def _domain_from_dict(document: dict[str, Any]) -> Domain:
    val = None if document["val"] is None else _folder_from_dict(document["val"])
    masks = _folder_from_dict(document["masks"]) if "masks" in document else None
    folder, drawn = _folder_from_dict(document), frozenset(document["held_out"])
    contract = document.get("contract")
    contract = Contract.from_dict(contract) if contract else Contract(channels=document["channels"])
    return Domain(folder, contract, drawn, val, document.get("labels", False), masks)


def _folder_from_dict(document: dict[str, Any]) -> Folder:
    files = tuple(File(**file) for file in document["files"])
    rare = {name: document[name] for name in RARE if name in document}
    alone = frozenset(document.get("alone", ()))
    return Folder(Path(document["folder"]), files, without_partner=alone, **rare)
