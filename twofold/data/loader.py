"""The endless stream of training batches, and plain batches without augmentation."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from twofold.data.augment import Moves, augment, moved
from twofold.data.dataset import ImageStore
from twofold.data.sampler import DomainName, offset, pick, placement
from twofold.data.settings import DataSettings
from twofold.errors import UsageError
from twofold.methods.base import Batch
from twofold.prefetch import prefetch

KEPT = 127
"""Pixels of a mask that are brighter than this are kept."""


class _Crops(NamedTuple):
    """The images of one store in a batch, before they go to the device."""

    pixels: Tensor  # (N, C, H, W) in the stored dtype; on the device already if the images are
    moves: Tensor  # bool (4, N), as the fields of Moves
    jitter: Tensor  # float32 (N, 3)


@dataclass(eq=False)
class Loader(Iterator[Batch]):
    """Batches of both domains as a function of the position in the stream.

    Without pairs the domains are drawn independently. Both images of a pair get the same crop, flips, turns and jitter.
    Iterating yields a `Batch` forever: float32 (batch, network channels, size, size) in [-1, 1] on the device.
    With ``resize`` "none" or "scale-width" the images are whole, of any size. At step k, rank r sees the global positions from
    ``start + k * batch * world + r * batch``. Use it as a context manager, or call `close`.

    Args:
        paired: whether the images of one number belong together.
        batch: images of each domain in a batch, on this rank.
        rank: of this process. world: how many processes share the stream.
        start: the global position to continue from: the images that all ranks have seen.

    Raises:
        UsageError: a batch of several whole images is requested.
        TwofoldError: while iterating, for a file that can no longer be read; the message names it.
    """

    store_a: ImageStore
    store_b: ImageStore
    settings: DataSettings
    seed: int
    _: KW_ONLY
    batch: int
    device: torch.device
    paired: bool = False
    rank: int = 0
    world: int = 1
    start: int = 0
    waiting: float = field(default=0.0, init=False)
    """Seconds that the consumer has waited for batches so far."""

    def __post_init__(self) -> None:
        if not self.settings.crops and self.batch > 1:
            resize = self.settings.resize
            raise UsageError(
                f"whole images (data.resize {resize}) cannot be batched; set training.batch to 1"
            )
        self.stores = self.store_a, self.store_b
        firsts = count(self.start + self.rank * self.batch, self.world * self.batch)
        workers = self.settings.workers
        self.batches = prefetch(self._prepare, firsts, workers, depth=2 * workers)

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads; iterating afterwards yields nothing."""
        self.batches.close()

    def __next__(self) -> Batch:
        began = time.perf_counter()
        crops = iter(next(self.batches))
        self.waiting += time.perf_counter() - began
        (a, mask_a), (b, mask_b) = (
            (self._finish(next(crops), store), self._mask(next(crops)) if store.masks else None)
            for store in self.stores
        )
        return Batch(a, b, mask_a=mask_a, mask_b=mask_b)

    def _prepare(self, first: int) -> list[_Crops]:
        """A, its masks, B, its masks (if there are masks). An image and its mask get the same crop, and so does a pair."""
        positions = range(first, first + self.batch)
        a, b = ([store, store.masks] if store.masks else [store] for store in self.stores)
        if self.paired:
            return self._crops("a", [*a, *b], positions)
        return self._crops("a", a, positions) + self._crops("b", b, positions)

    def _crops(self, domain: DomainName, stores: Sequence[ImageStore], positions: range) -> list[_Crops]:
        """The same crops of the same images from each store; `domain` is the key of the random numbers."""
        size = self.settings.size if self.settings.crops else None
        pixels, moves, jitter = [], [], []
        for position in positions:
            place = placement(self.seed, domain, position)
            number = pick(self.seed, domain, len(stores[0]), position)
            pixels.append(same_crop([store[number] for store in stores], size, place.y, place.x))
            moves.append((place.flip, place.upside_down, place.turns >= 2, place.turns % 2 == 1))
            jitter.append(place.jitter)
        planes = [_planes(crops) for crops in zip(*pixels, strict=True)]
        drawn = torch.tensor(moves).T.contiguous(), torch.tensor(jitter, dtype=torch.float32)
        return [_Crops(*(self._pinned(part) for part in (plane, *drawn))) for plane in planes]

    def _pinned(self, part: Tensor) -> Tensor:
        """In page-locked memory for CUDA: a copy from other memory would wait for all earlier work of the GPU."""
        return part.pin_memory() if self.device.type == "cuda" and part.device.type == "cpu" else part

    def _on_device(self, part: Tensor) -> Tensor:
        """On the device. Only CUDA may copy later: for Apple's GPUs the memory would be reused before the copy."""
        return part.to(self.device, non_blocking=self.device.type == "cuda")

    def _mask(self, crops: _Crops) -> Tensor:
        pixels, moves = (self._on_device(part) for part in crops[:2])
        return moved((pixels > KEPT).float(), self._wanted(moves))

    def _wanted(self, moves: Tensor) -> Moves:
        turns = "turns" in self.settings.augment
        wanted = self.settings.flip, "vertical" in self.settings.augment, turns, turns
        return Moves(*(chosen if on else None for chosen, on in zip(moves.unbind(0), wanted, strict=True)))

    def _finish(self, crops: _Crops, store: ImageStore) -> Tensor:
        here = self.device.type == "mps" and store.contract.dtype != "uint8"  # Apple's GPUs lack some types
        pixels, moves, jitter = crops if here else (self._on_device(part) for part in crops)
        strength = 0 if store.rule.labels else self.settings.jitter
        changes = self._wanted(moves), jitter * strength if strength else None
        return self._on_device(augment(pixels, *changes, store.contract))


def load_plain_batch(store: ImageStore, numbers: Sequence[int], size: int | None) -> Tensor:
    """Images at load size, their middle `size` x `size` pixels (None: whole), neither flipped nor jittered.

    Returns:
        (N, C, size, size) in the stored dtype, on the CPU; whole images must be of one size.
    """
    return _planes([same_crop([store[i]], size, 0.5, 0.5)[0] for i in numbers]).cpu()


def same_crop(images: Sequence[Tensor], size: int | None, y: float, x: float) -> list[Tensor]:
    """The same square of each (H, W, C), at the fractions `y`, `x` of the free space.

    Scaled images of a pair may differ by a pixel: the free space is that of the smallest.
    """
    height, width = (min(image.shape[side] for image in images) for side in (0, 1))
    top, left = (0, 0) if size is None else (offset(y, height - size), offset(x, width - size))
    bottom, right = (height, width) if size is None else (top + size, left + size)
    return [image[top:bottom, left:right] for image in images]


def _planes(crops: Sequence[Tensor]) -> Tensor:
    """(H, W, C) each to (N, C, H, W) on their device, contiguous, so that the networks choose the memory format."""
    height, width, channels = crops[0].shape
    batch = torch.empty(len(crops), channels, height, width, dtype=crops[0].dtype, device=crops[0].device)
    for target, crop in zip(batch, crops, strict=True):
        target.copy_(crop.permute(2, 0, 1))
    return batch
