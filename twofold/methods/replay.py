"""The replay buffer: a critic also sees translations of the past (Shrivastava et al. 2017, §2.3)."""

from collections.abc import Iterable

import torch
from torch import Tensor


class ReplayBuffer:
    """The last `capacity` translations, on the device that made them; their sizes may differ.

    Until it is full every image is stored and passed through. After that each image is, with probability one
    half, swapped for a random stored one, else passed through: the rule of CycleGAN's image pool. Draws come
    from torch's CPU generator, which the trainer seeds for each step; nothing asks the device.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._stored: list[Tensor] = []  # (1, C, H, W) each, contiguous

    def exchange(self, images: Tensor) -> Tensor:
        """Store some of `images` (N, C, H, W) and return as many, some of them from the past; no gradient."""
        images = images.detach()
        if self.capacity == 0:
            return images
        swaps = torch.rand(len(images)).tolist()
        places = torch.randint(self.capacity, (len(images),)).tolist()
        given = zip(images.split(1), swaps, places, strict=True)
        return torch.cat([self._exchange_one(*each) for each in given])

    def _exchange_one(self, image: Tensor, swap: float, place: int) -> Tensor:
        if len(self._stored) < self.capacity:
            self._stored.append(own(image))
            return image
        if swap < 0.5:
            return image
        past, self._stored[place] = self._stored[place], own(image)
        return past.contiguous(memory_format=torch.channels_last) if is_channels_last(image) else past

    def content(self) -> list[Tensor]:
        """The stored images, (1, C, H, W) each."""
        return self._stored

    def refill(self, content: Iterable[Tensor]) -> None:
        """Take back what `content` gave; several images of one size may come as one tensor (N, C, H, W)."""
        self._stored = [image.clone() for images in content for image in images.split(1)]


def own(image: Tensor) -> Tensor:
    """A contiguous copy: a view would keep its whole batch alive."""
    return image.clone(memory_format=torch.contiguous_format)


def is_channels_last(images: Tensor) -> bool:
    return not images.is_contiguous() and images.is_contiguous(memory_format=torch.channels_last)
