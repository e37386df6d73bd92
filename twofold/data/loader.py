"""The endless stream of training batches, and the plain pictures that samples are drawn from."""

import time
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from twofold.data.ahead import ahead
from twofold.data.augment import augment
from twofold.data.dataset import ImageStore
from twofold.data.sampler import Domain, offset, pick, placement
from twofold.data.settings import DataSettings
from twofold.errors import UsageError


class _Crops(NamedTuple):
    """One domain's half of a batch, before it goes to the device."""

    pixels: Tensor  # uint8 (N, C, H, W)
    flips: Tensor  # bool (N,)
    jitter: Tensor  # float32 (N, 3)


class UnpairedLoader:
    """Batches of both domains, drawn independently, as a function of the position in the stream.

    Iterating yields ``(a, b)`` forever: float32 (batch, C, size, size) in [-1, 1] on the device. With
    ``resize="none"`` the images are whole, of any size. At step k, rank r sees the global positions from
    ``start + k * batch * world + r * batch``. Use it as a context manager, or call `close`.

    Args:
        store_a: images of A. store_b: images of B.
        seed: of the run.
        batch: images of each domain in a batch, on this rank.
        rank: of this process. world: how many processes share the stream.
        device: where the batches go.
        start: the global position to go on from: the images that all ranks have seen.

    Raises:
        UsageError: a store is empty, or whole images are to be batched.
        TwofoldError: while iterating, for a file that can no longer be read; the message names it.
    """

    def __init__(
        self,
        store_a: ImageStore,
        store_b: ImageStore,
        settings: DataSettings,
        seed: int,
        *,
        batch: int,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
    ) -> None:
        if not len(store_a) or not len(store_b):
            raise UsageError(f"no images of {'B' if len(store_a) else 'A'} to train on; check its folder")
        if settings.resize == "none" and batch > 1:
            raise UsageError("whole images (resize none) come one by one; set the batch to 1")
        self.stores: dict[Domain, ImageStore] = {"a": store_a, "b": store_b}
        self.settings = settings
        self.seed = seed
        self.batch = batch
        self.device = device
        self.waiting = 0.0
        """Seconds that the consumer has waited for batches so far."""
        firsts = count(start + rank * batch, world * batch)
        self.batches = ahead(self._prepare, firsts, settings.workers, depth=2 * settings.workers)

    def __enter__(self) -> "UnpairedLoader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads; iterating afterwards yields nothing."""
        self.batches.close()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        began = time.perf_counter()
        a, b = next(self.batches)
        self.waiting += time.perf_counter() - began
        return self._finish(a), self._finish(b)

    def _prepare(self, first: int) -> tuple[_Crops, _Crops]:
        positions = range(first, first + self.batch)
        return self._crops("a", positions), self._crops("b", positions)

    def _crops(self, domain: Domain, positions: range) -> _Crops:
        store = self.stores[domain]
        size = crop_size(self.settings)
        pixels, flips, jitter = [], [], []
        for position in positions:
            place = placement(self.seed, domain, position)
            image = store[pick(self.seed, domain, len(store), position)]
            pixels.append(_cut(image, size, place.y, place.x))
            flips.append(place.flip)
            jitter.append(place.jitter)
        planes = _planes(pixels)
        if self.device.type == "cuda":
            planes = planes.pin_memory()
        return _Crops(planes, torch.tensor(flips), torch.tensor(jitter, dtype=torch.float32))

    def _finish(self, crops: _Crops) -> Tensor:
        pixels, flips, jitter = (part.to(self.device, non_blocking=True) for part in crops)
        strength = self.settings.jitter
        return augment(pixels, flips if self.settings.flip else None, jitter * strength if strength else None)


def crop_size(settings: DataSettings) -> int | None:
    """The side of the crops in pixels, None where whole images are used."""
    return None if settings.resize == "none" else settings.size


def load_plain(store: ImageStore, i: int, size: int | None) -> Tensor:
    """Image `i` at load size, its middle `size` x `size` pixels (None: whole), neither flipped nor jittered.

    Returns:
        uint8 (C, size, size) on the CPU.
    """
    return load_plain_batch(store, [i], size)[0]


def load_plain_batch(store: ImageStore, numbers: Sequence[int], size: int | None) -> Tensor:
    """`load_plain` of several: uint8 (N, C, size, size) on the CPU; whole images must be of one size."""
    return _planes([_cut(store[i], size, 0.5, 0.5) for i in numbers])


def _cut(image: Tensor, size: int | None, y: float, x: float) -> Tensor:
    """A square of (H, W, C) at the fractions `y`, `x` of the room there is."""
    if size is None:
        return image
    top, left = offset(y, image.shape[0] - size), offset(x, image.shape[1] - size)
    return image[top : top + size, left : left + size]


def _planes(crops: Sequence[Tensor]) -> Tensor:
    """(H, W, C) each to (N, C, H, W), contiguous, so that the networks choose the memory format."""
    height, width, channels = crops[0].shape
    batch = torch.empty(len(crops), channels, height, width, dtype=torch.uint8)
    for target, crop in zip(batch, crops, strict=True):
        target.copy_(crop.permute(2, 0, 1))
    return batch
