"""Recent images: extra discriminator updates after each batch draw from them. Our own addition; there is no paper."""

import torch
from torch import Tensor

from twofold.methods.replay import ImageStorage

KEPT_REAL, KEPT_TRANSLATED = 64, 12
"""Images kept of each kind: few translations, so that today's generators could nearly have made them."""

DRAWN_PER_IMAGE = 2
"""Images drawn for an extra update, for each image of a batch."""


class RecentImages(ImageStorage):
    """The last `capacity` images of one kind and size, on the device that made them."""

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
