"""Loss sums that stay on the device until a report asks for them."""

import math

import torch
from torch import Tensor

from twofold import distributed


class LossSums:
    """Sums of every loss since the last report, and the first image count at which each was not finite.

    Nothing here waits for the device except `report` and `broken`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._names: list[str] = []
        self._sums: list[Tensor] = []
        self._first_bad: list[Tensor] = []
        self._steps: list[int] = []

    def add(self, losses: dict[str, Tensor], images: int) -> None:
        """Add one step's losses; `images` is the count at the step's start."""
        for name, loss in losses.items():
            place = self._place(name)
            value = loss.detach().double() if self._device.type == "cpu" else loss.detach().float()
            self._sums[place] += value
            bad = torch.where(value.isfinite(), math.inf, float(images))
            self._first_bad[place] = torch.minimum(self._first_bad[place], bad)
            self._steps[place] += 1

    def _place(self, name: str) -> int:
        if name not in self._names:
            self._names.append(name)
            dtype = torch.float64 if self._device.type == "cpu" else torch.float32
            self._sums.append(torch.zeros((), device=self._device, dtype=dtype))
            self._first_bad.append(torch.full((), math.inf, device=self._device, dtype=dtype))
            self._steps.append(0)
        return self._names.index(name)

    def report(self) -> dict[str, float]:
        """The mean of each loss since the last report, over all ranks; the sums start again."""
        if not self._names:
            return {}
        means = distributed.average(torch.stack(self._sums)).tolist()
        counts = [max(1, n) for n in self._steps]
        for place in range(len(self._names)):
            self._sums[place] = torch.zeros_like(self._sums[place])
            self._steps[place] = 0
        return dict(zip(self._names, (m / n for m, n in zip(means, counts, strict=True)), strict=True))

    def broken(self) -> tuple[int, list[str]] | None:
        """The first image count at which a loss was not finite, and which were not then; else None."""
        if not self._names:
            return None
        each = distributed.minimum(torch.stack(self._first_bad)).tolist()
        first = min(each)
        bad = [name for name, images in zip(self._names, each, strict=True) if images == first]
        return (int(first), bad) if first < math.inf else None

    def state(self) -> dict[str, Tensor]:
        """Unreported sums, by place and loss, as (sum, steps) in float64; with them a resumed report is the same."""
        return {
            f"{place:03d}/{name}": torch.tensor(
                [self._sums[place].item(), self._steps[place]], dtype=torch.float64
            )
            for place, name in enumerate(self._names)
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave, in the order of the places: a file has its own."""
        for key in sorted(state):
            place = self._place(key.split("/")[-1])
            self._sums[place].fill_(state[key][0].item())
            self._steps[place] = int(state[key][1])
