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
        self._rows: dict[str, Tensor] = {}
        """(sum, steps, first image count at which it was not finite) of each loss."""

    def add(self, losses: dict[str, Tensor], images: Tensor | float) -> None:
        """Add one step's losses; `images` is the count at the step's start."""
        for name, loss in losses.items():
            total, steps, first_bad = self._row(name)
            value = loss.detach().to(total.dtype)
            total += value
            steps += 1
            bad = torch.where(value.isfinite(), math.inf, images)
            torch.minimum(first_bad, bad, out=first_bad)

    def _row(self, name: str) -> Tensor:
        if name not in self._rows:
            self._rows[name] = torch.zeros(3, device=self._device, dtype=counting(self._device))
            self._rows[name][2] = math.inf
        return self._rows[name]

    def report(self) -> dict[str, float]:
        """The mean of each loss since the last report, over all ranks; the sums start again."""
        if not self._rows:
            return {}
        sums, steps, _ = torch.stack([*self._rows.values()], 1)
        means = (distributed.average(sums) / steps.clamp(min=1)).tolist()
        for row in self._rows.values():
            row[:2].zero_()
        return dict(zip(self._rows, means, strict=True))

    def broken(self) -> tuple[int, list[str]] | None:
        """The first image count at which a loss was not finite, and which were not then; else None."""
        if not self._rows:
            return None
        each = distributed.minimum(torch.stack([row[2] for row in self._rows.values()])).tolist()
        first = min(each)
        bad = [name for name, images in zip(self._rows, each, strict=True) if images == first]
        return (int(first), bad) if first < math.inf else None

    def state(self) -> dict[str, Tensor]:
        """Unreported sums, by place and loss, as (sum, steps) in float64, so that a resumed report is the same."""
        return {
            f"{place:03d}/{name}": row[:2].cpu().double()
            for place, (name, row) in enumerate(self._rows.items())
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Load what `state` gave, in the order of the places; a file has another order."""
        for key in sorted(state):
            self._row(key.split("/")[-1])[:2] = state[key]


def counting(device: torch.device) -> torch.dtype:
    """The dtype of sums and image counts: float32 on a GPU, where float64 is slow, or missing on Apple's."""
    return torch.float64 if device.type == "cpu" else torch.float32
