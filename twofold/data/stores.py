"""The images of an index, ready to be read: decoded in a cache, in a device's memory, or still in their files."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from twofold.data import cache
from twofold.data.cache import Entry, Job, Listed, loaded_pixels
from twofold.data.dataset import ImageStore, LoadRule
from twofold.data.listing import Index, Listing, Side
from twofold.data.settings import DataSettings
from twofold.data.survey import some
from twofold.errors import TwofoldError


class Stores(NamedTuple):
    """The images of a run, ready to be read."""

    a: ImageStore
    b: ImageStore
    held_out_a: ImageStore
    """Maybe empty."""
    held_out_b: ImageStore

    def resident(self, device: torch.device, room: int) -> "Stores":
        """With the images to train on in a device's memory, if their caches take no more than `room` bytes."""
        if sum(pixels.nbytes for store in self[:2] for pixels in store.kept) > room:
            return self
        return self._replace(a=self.a.on(device), b=self.b.on(device))


def open_stores(index: Index, settings: DataSettings, notify: Callable[[str], None]) -> Stores:
    """The images of an index, cached where `settings` and the disk allow.

    Raises:
        TwofoldError: the cache had to be built again, and files that once decoded no longer do.
    """
    listings = index.listings
    rules = [side.rule(listing, settings, index.multiple_of) for _, listing, side in listings]
    jobs = [_job(listing, rule) for (_, listing, _), rule in zip(listings, rules, strict=True)]
    scans = index.scans or cache.open_all(jobs, settings, notify, verify=False)
    found = {id(each[1]): (rule, scan) for each, rule, scan in zip(listings, rules, scans, strict=True)}

    def store(listing: Listing, files: Sequence[Entry], masks: ImageStore | None = None) -> ImageStore:
        rule, scan = found[id(listing)]
        missing = [file.name for file in files if file.name not in scan.places]
        if scan.pixels is not None and missing:
            raise TwofoldError(f"{listing.folder}: {some(missing)} no longer decodes; restore it")
        places = [scan.places[file.name] for file in files] if scan.pixels is not None else []
        return ImageStore([listing.folder / file.name for file in files], rule, scan.pixels, places, masks)

    def train(side: Side) -> ImageStore:
        masks = store(side.masks, side.train_masks) if side.masks else None
        return store(side.listing, side.train, masks)

    a, b = index.a, index.b
    held_out = [store(side.val or side.listing, side.held_out) for side in (a, b)]
    return Stores(train(a), train(b), *held_out)


def _job(listing: Listing, rule: LoadRule) -> Job:
    listed = [Listed(*file[:3]) for file in listing.files]
    sizes = [(file.width, file.height) for file in listing.good]
    return Job(listing.folder, listed, rule, loaded_pixels(sizes, rule))
