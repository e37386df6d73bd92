"""The replay buffer (Shrivastava et al. 2017, §2.3) and recent images: discriminators also see images of earlier steps."""

from typing import Any

import torch
from torch import Tensor, nn

from twofold.networks.layers import is_channels_last

KEPT_REAL, KEPT_TRANSLATED = 64, 12
"""Recent images kept of each kind: few translations, so that today's generators could nearly have made them."""

DRAWN_PER_IMAGE = 2
"""Recent images drawn for an extra update, for each image of a batch."""


class ImageStorage(nn.Module):
    """Images kept in buffers that are allocated with the first image, when its size is known.

    Attributes:
        rows: (rows, C, H, W), None before the first image.
        count: (1,), images stored so far. On the device, so that nothing has to wait for it.
    """

    rows: Tensor | None
    count: Tensor

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.register_buffer("rows", None)
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))

    def allocate(self, images: Tensor, rows: int) -> Tensor:
        """The rows, made for images of this size if there are none."""
        if self.rows is None:
            self.rows = images.new_zeros(rows, *images.shape[1:])
        return self.rows

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        """Allocate the buffers that the state has, then load it: its images give the shapes."""
        saved = {k.removeprefix(prefix): t for k, t in state_dict.items() if k.startswith(prefix)}
        device = self.count.device
        for name in [name for name in self._buffers if name != "count"]:
            self.register_buffer(name, None)
        for name, tensor in sorted(saved.items()):
            self.register_buffer(name, torch.empty_like(tensor, device=device))
        super()._load_from_state_dict(state_dict, prefix, *args)


class ReplayBuffer(ImageStorage):
    """The last `capacity` translations, on the device that made them; their sizes may differ.

    Until the buffer is full every image is stored and returned. After that each image is, with probability one
    half, swapped for a random stored one, else returned: the rule of CycleGAN's image pool. The draws come from the
    device's generator, which the trainer seeds for each step, and stay on the device, so that a step captured as a
    graph draws anew each time. Once images differ in size, each has a buffer of its own and the CPU draws.
    """

    def exchange(self, images: Tensor) -> Tensor:
        """Store some of `images` (N, C, H, W) and return as many, some of them from the past; no gradient."""
        images = images.detach()
        if self.capacity == 0:
            return images
        if self.rows is not None and self.rows.shape[1:] != images.shape[1:]:
            self.store_separately([image.clone() for image in self.content()])
        if self.rows is None and self._buffers.get("image_000000") is not None:
            return self._exchange_separate(images)
        rows = self.allocate(images, self.capacity + 1)  # the last row takes images that are not stored
        swaps = torch.rand(len(images), device=images.device) >= 0.5
        places = torch.randint(self.capacity, (len(images),), device=images.device)
        drawn = zip(images.split(1), swaps.split(1), places.split(1), strict=True)
        return in_layout_of(images, torch.cat([self._exchange_one(rows, *each) for each in drawn]))

    def _exchange_one(self, rows: Tensor, image: Tensor, swap: Tensor, place: Tensor) -> Tensor:
        full = self.count == self.capacity
        at = torch.where(full, torch.where(swap, place, self.capacity), self.count)
        past = rows.index_select(0, at)
        rows.index_copy_(0, at, image)
        self.count += ~full
        return torch.where((full & swap).view(1, 1, 1, 1), past, image)

    def _exchange_separate(self, images: Tensor) -> Tensor:
        swaps, places = torch.rand(len(images)) >= 0.5, torch.randint(self.capacity, (len(images),))
        stored, returned = self.content(), list(images.split(1))
        for number, (swap, place) in enumerate(zip(swaps.tolist(), places.tolist(), strict=True)):
            if len(stored) < self.capacity:
                stored.append(returned[number].clone())
            elif swap:
                returned[number], stored[place] = stored[place], returned[number].clone()
        self.store_separately(stored)
        return in_layout_of(images, torch.cat(returned))

    def store_separately(self, images: list[Tensor]) -> None:
        """Give each of `images`, (1, C, H, W), a buffer of its own."""
        self.rows = None
        for place, image in enumerate(images):
            self.register_buffer(f"image_{place:06d}", image)
        self.count.fill_(len(images))

    def content(self) -> list[Tensor]:
        """The stored images, (1, C, H, W) each. Waits for the device."""
        if self.rows is not None:
            return list(self.rows[: int(self.count)].split(1))
        return [image for name, image in sorted(self.named_buffers()) if name.startswith("image_")]


class RecentImages(ImageStorage):
    """The last `capacity` images of one kind and size, on the device that made them.

    Extra discriminator updates after each batch draw from them: our own addition; there is no paper.
    """

    def keep(self, images: Tensor) -> None:
        """Store `images` (N, C, H, W) in place of the oldest."""
        rows = self.allocate(images, self.capacity)
        for image in images.detach().split(1):
            rows.index_copy_(0, self.count % self.capacity, image.to(rows.dtype))
            self.count += 1

    def draw(self, count: int) -> Tensor:
        """Images drawn with replacement, (count, C, H, W); the draws come from the device's generator."""
        assert self.rows is not None
        share = torch.rand(count, device=self.rows.device)
        return self.rows.index_select(0, (share * self.count.clamp(max=self.capacity)).long())


def in_layout_of(images: Tensor, others: Tensor) -> Tensor:
    """`others` in the memory layout of `images`."""
    layout = torch.channels_last if is_channels_last(images) else torch.contiguous_format
    return others.contiguous(memory_format=layout)
