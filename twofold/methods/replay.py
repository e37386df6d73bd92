"""The replay buffer: a critic also sees translations of the past (Shrivastava et al. 2017, §2.3)."""

import torch
from torch import Tensor


class ReplayBuffer:
    """The last `capacity` translations, on the device that made them.

    Until it is full every image is stored and passed through. After that each image is, with probability one
    half, swapped for a random stored one, else passed through: the rule of CycleGAN's image pool. Draws come
    from torch's CPU generator, which the trainer seeds for each step; nothing asks the device.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._stored: Tensor | None = None  # (capacity, C, H, W), the first `_filled` rows in use
        self._filled = 0

    def exchange(self, images: Tensor) -> Tensor:
        """Store some of `images` (N, C, H, W) and return as many, some of them from the past; no gradient."""
        images = images.detach()
        if self.capacity == 0:
            return images
        if self._stored is None:
            self._stored = images.new_empty((self.capacity, *images.shape[1:]))
        swaps = torch.rand(len(images)).tolist()
        places = torch.randint(self.capacity, (len(images),)).tolist()
        return torch.stack([self._exchange_one(*each) for each in zip(images, swaps, places, strict=True)])

    def _exchange_one(self, image: Tensor, swap: float, place: int) -> Tensor:
        assert self._stored is not None
        if self._filled < self.capacity:
            self._stored[self._filled] = image
            self._filled += 1
            return image
        if swap < 0.5:
            return image
        past = self._stored[place].clone()
        self._stored[place] = image
        return past

    def content(self) -> Tensor | None:
        """The images in use, (filled, C, H, W), or None before the first."""
        return None if self._stored is None else self._stored[: self._filled]

    def refill(self, content: Tensor) -> None:
        """Take back what `content` gave."""
        self._stored = content.new_empty((self.capacity, *content.shape[1:]))
        self._filled = len(content)
        self._stored[: self._filled] = content
