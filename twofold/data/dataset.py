"""The images of a manifest, ready to be read: decoded in a cache, in a device's memory, or still in their files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from twofold.data import cache
from twofold.data.geometry import LoadRule, read_part, to_load_size
from twofold.data.manifest import Domain, File, Folder, Manifest, Place
from twofold.data.rules import some
from twofold.data.settings import DataSettings
from twofold.errors import TwofoldError
from twofold.formats.contract import Contract


@dataclass(frozen=True, eq=False)
class ImageStore:
    """Images of one domain at load size, by number; from a memory-mapped cache, else decoded each time."""

    paths: Sequence[Path]
    rule: LoadRule
    pixels: Tensor | None = None
    """The bytes of a cache, uint8 (bytes,); None: decode each file when it is needed."""
    places: Sequence[Place] = ()
    """Where each file's pixels lie in them."""
    masks: "ImageStore | None" = None
    """The mask of each image, by its number: what translation is to leave as it is."""

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def contract(self) -> Contract:
        return self.rule.contract

    def __getitem__(self, i: int) -> Tensor:
        """Image `i`, (H, W, C) in the stored dtype; of a cached store a view of a read-only map: never write to it."""
        if self.pixels is None:
            return torch.from_numpy(to_load_size(read_part(self.paths[i], self.rule), self.rule))
        dtype: torch.dtype = getattr(torch, self.contract.dtype)
        shape = *self.places[i][1:], self.contract.channels
        offset = self.places[i][0]
        return self.pixels[offset : offset + prod(shape) * dtype.itemsize].view(dtype).view(shape)

    @property
    def nbytes(self) -> int:
        """The size of its cache and of its masks' cache, in bytes."""
        own = 0 if self.pixels is None else self.pixels.nbytes
        return own + (self.masks.nbytes if self.masks else 0)

    def on(self, device: torch.device) -> "ImageStore":
        """This store with the bytes of its cache on a device, where its images then are."""
        pixels = None if self.pixels is None else self.pixels.to(device)
        return replace(self, pixels=pixels, masks=self.masks and self.masks.on(device))


class Images(NamedTuple):
    """The images of a run, ready to be read."""

    a: ImageStore
    b: ImageStore
    held_out_a: ImageStore
    """May be empty."""
    held_out_b: ImageStore

    def resident(self, device: torch.device, limit: int) -> "Images":
        """With the training images in the memory of `device`, if their caches take at most `limit` bytes."""
        if self.a.nbytes + self.b.nbytes > limit:
            return self
        return self._replace(a=self.a.on(device), b=self.b.on(device))


def open_images(manifest: Manifest, settings: DataSettings, notify: Callable[[str], None]) -> Images:
    """Open the images of a manifest, cached where `settings` and the disk allow.

    Raises:
        TwofoldError: the cache had to be built again, and a file that was good can no longer be read.
    """
    jobs = [
        (folder, domain.rule(folder, settings, manifest.multiple_of))
        for _, folder, domain in manifest.folders
    ]
    caches = manifest.caches or cache.open_caches(jobs, settings, notify, verify=False)
    opened = {id(folder): (rule, found) for (folder, rule), found in zip(jobs, caches, strict=True)}

    def store(folder: Folder, files: Sequence[File], masks: ImageStore | None = None) -> ImageStore:
        rule, found = opened[id(folder)]
        missing = [file.name for file in files if file.name not in found.places]
        if found.pixels is not None and missing:
            raise TwofoldError(f"{folder.path}: {some(missing)} can no longer be read; restore it")
        places = [found.places[file.name] for file in files] if found.pixels is not None else []
        return ImageStore([folder.path / file.name for file in files], rule, found.pixels, places, masks)

    def training(domain: Domain) -> ImageStore:
        masks = store(domain.masks, domain.train_masks) if domain.masks else None
        return store(domain.folder, domain.train, masks)

    a, b = manifest.a, manifest.b
    held_out = [store(domain.val or domain.folder, domain.held_out) for domain in (a, b)]
    return Images(training(a), training(b), *held_out)
