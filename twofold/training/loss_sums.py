"""Loss sums that stay on the device until a report asks for them."""

import math

import torch
from torch import Tensor

from twofold import distributed


class LossSums:
    """Sums of every loss since the last report, and the first image count at which each was not finite.

    Only `report`, `broken` and `state` wait for the device. `add` works in place, so that a graph can capture it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._names: list[str] = []
        self._sums: list[Tensor] = []
        self._steps: list[Tensor] = []
        self._first_bad: list[Tensor] = []

    def add(self, losses: dict[str, Tensor], images: Tensor | float) -> None:
        """Add one step's losses; `images` is the count at the step's start."""
        for name, loss in losses.items():
            place = self._place(name)
            value = loss.detach().to(self._sums[place].dtype)
            self._sums[place] += value
            self._steps[place] += 1
            bad = torch.where(value.isfinite(), math.inf, images)
            torch.minimum(self._first_bad[place], bad, out=self._first_bad[place])

    def _place(self, name: str) -> int:
        if name not in self._names:
            self._names.append(name)
            for values, first in ((self._sums, 0.0), (self._steps, 0.0), (self._first_bad, math.inf)):
                values.append(torch.full((), first, device=self._device, dtype=counting(self._device)))
        return self._names.index(name)

    def report(self) -> dict[str, float]:
        """The mean of each loss since the last report, over all ranks; the sums start again."""
        if not self._names:
            return {}
        sums = distributed.average(torch.stack(self._sums))
        means = (sums / torch.stack(self._steps).clamp(min=1)).tolist()
        for value in self._sums + self._steps:
            value.zero_()
        return dict(zip(self._names, means, strict=True))

    def broken(self) -> tuple[int, list[str]] | None:
        """The first image count at which a loss was not finite, and which were not then; else None."""
        if not self._names:
            return None
        each = distributed.minimum(torch.stack(self._first_bad)).tolist()
        first = min(each)
        bad = [name for name, images in zip(self._names, each, strict=True) if images == first]
        return (int(first), bad) if first < math.inf else None

    def state(self) -> dict[str, Tensor]:
        """Unreported sums, by place and loss, as (sum, steps) in float64, so that a resumed report is the same."""
        return {
            f"{place:03d}/{name}": torch.stack((self._sums[place], self._steps[place])).cpu().double()
            for place, name in enumerate(self._names)
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Load what `state` gave, in the order of the places; a file has another order."""
        for key in sorted(state):
            place = self._place(key.split("/")[-1])
            both = state[key].to(self._sums[place].dtype)
            self._sums[place].copy_(both[0])
            self._steps[place].copy_(both[1])


def counting(device: torch.device) -> torch.dtype:
    """The dtype of sums and image counts: float32 on a GPU, where float64 is slow, or missing on Apple's."""
    return torch.float64 if device.type == "cpu" else torch.float32
