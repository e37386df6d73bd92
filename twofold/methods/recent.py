"""Rehearsals: a critic learns more often than the generators, from what it has seen of late."""

import torch
from torch import Tensor

REAL, TRANSLATED = 64, 12
"""Images of each kind to draw from: translations few enough that they are nearly today's."""

TIMES = 2
"""As many times the images of a batch are rehearsed at once."""


class Recent:
    """The last `capacity` images of one kind and size, on the device that made them; draws are its generator's."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._rows: Tensor | None = None  # (capacity, C, H, W), the oldest overwritten first
        self._count: Tensor | None = None  # (1,), of all that were ever kept

    def keep(self, images: Tensor) -> None:
        """Remember `images` (N, C, H, W)."""
        images = images.detach()
        if self._rows is None or self._count is None:
            self._rows = images.new_zeros(self.capacity, *images.shape[1:])
            self._count = torch.zeros(1, dtype=torch.int64, device=images.device)
        for image in images.split(1):
            self._rows.index_copy_(0, self._count % self.capacity, image.to(self._rows.dtype))
            self._count += 1

    def draw(self, count: int) -> Tensor:
        """Images drawn with replacement from those that are kept, (count, C, H, W)."""
        assert self._rows is not None and self._count is not None
        share = torch.rand(count, device=self._rows.device)
        return self._rows.index_select(0, (share * self._count.clamp(max=self.capacity)).long())

    def content(self) -> dict[str, Tensor]:
        """What `refill` takes."""
        if self._rows is None or self._count is None:
            return {}
        return {"rows": self._rows, "count": self._count}

    def refill(self, content: dict[str, Tensor]) -> None:
        """Take back what `content` gave."""
        self._rows, self._count = content.get("rows"), content.get("count")
