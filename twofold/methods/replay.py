"""The replay buffer: a critic also sees translations of the past (Shrivastava et al. 2017, §2.3)."""

from collections.abc import Iterable

import torch
from torch import Tensor


class ReplayBuffer:
    """The last `capacity` translations, on the device that made them; their sizes may differ.

    Until it is full every image is stored and passed through. After that each image is, with probability one
    half, swapped for a random stored one, else passed through: the rule of CycleGAN's image pool. Draws come
    from the device's generator, which the trainer seeds for each step, and stay there: nothing asks the device, and
    a step captured as a graph draws anew each time. Images of differing sizes alone are drawn for on the CPU.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._rows: Tensor | None = None  # (capacity + 1, C, H, W): the last takes what is not to be kept
        self._count: Tensor | None = None  # of the rows that are in use, on the device
        self._loose: list[Tensor] | None = None  # (1, C, H, W) each, once they have had more than one size

    def exchange(self, images: Tensor) -> Tensor:
        """Store some of `images` (N, C, H, W) and return as many, some of them from the past; no gradient."""
        images = images.detach()
        if self.capacity == 0:
            return images
        if self._rows is not None and self._rows.shape[1:] != images.shape[1:]:
            self._loose, self._rows = self.content(), None
        if self._loose is not None:
            return self._exchange_loose(images, self._loose)
        rows, count = self._room_for(images)
        swaps = torch.rand(len(images), device=images.device) >= 0.5
        places = torch.randint(self.capacity, (len(images),), device=images.device)
        given = zip(images.split(1), swaps.split(1), places.split(1), strict=True)
        return like(images, torch.cat([self._exchange_one(rows, count, *each) for each in given]))

    def _room_for(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self._rows is None or self._count is None:
            self._rows = images.new_zeros(self.capacity + 1, *images.shape[1:])
            self._count = torch.zeros(1, dtype=torch.int64, device=images.device)
        return self._rows, self._count

    def _exchange_one(
        self, rows: Tensor, count: Tensor, image: Tensor, swap: Tensor, place: Tensor
    ) -> Tensor:
        full = count == self.capacity
        at = torch.where(full, torch.where(swap, place, self.capacity), count)
        past = rows.index_select(0, at)
        rows.index_copy_(0, at, image)
        count += ~full
        return torch.where((full & swap).view(1, 1, 1, 1), past, image)

    def _exchange_loose(self, images: Tensor, stored: list[Tensor]) -> Tensor:
        swaps, places = torch.rand(len(images)) >= 0.5, torch.randint(self.capacity, (len(images),))
        returned: list[Tensor] = []
        for image, swap, place in zip(images.split(1), swaps.tolist(), places.tolist(), strict=True):
            if len(stored) < self.capacity:
                stored.append(image.clone())
                returned.append(image)
            elif swap:
                returned.append(stored[place])
                stored[place] = image.clone()
            else:
                returned.append(image)
        return like(images, torch.cat(returned))

    def content(self) -> list[Tensor]:
        """The stored images, (1, C, H, W) each; asks the device how many."""
        if self._loose is not None:
            return self._loose
        if self._rows is None or self._count is None:
            return []
        return list(self._rows[: int(self._count)].split(1))

    def refill(self, content: Iterable[Tensor]) -> None:
        """Take back what `content` gave; several images of one size may come as one tensor (N, C, H, W)."""
        images = [image for several in content for image in several.split(1)]
        self._rows = self._count = self._loose = None
        if len({image.shape for image in images}) > 1:
            self._loose = [image.clone() for image in images]
        elif images:
            rows, count = self._room_for(images[0])
            rows[: len(images)] = torch.cat(images)
            count.fill_(len(images))


def like(images: Tensor, others: Tensor) -> Tensor:
    """`others` in the memory layout of `images`."""
    last = not images.is_contiguous() and images.is_contiguous(memory_format=torch.channels_last)
    return others.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
