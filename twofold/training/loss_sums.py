"""Loss sums that stay on the device until a report asks for them."""

import math

import torch
from torch import Tensor

from twofold import distributed


class LossSums:
    """Of every loss: its sum and its steps since the last report, and the first image count at which it was not finite.

    Only `report`, `broken` and `state` wait for the device. `add` works in place, so that a graph can capture it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._losses: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def add(self, losses: dict[str, Tensor], images: Tensor | float) -> None:
        """Add one step's losses; `images` is the count at the step's start."""
        for name, loss in losses.items():
            total, steps, first_bad = self._of(name)
            value = loss.detach().to(total.dtype)
            total += value
            steps += 1
            torch.minimum(first_bad, torch.where(value.isfinite(), math.inf, images), out=first_bad)

    def _of(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        if name not in self._losses:
            like = {"dtype": counting(self._device), "device": self._device}
            zero, never = torch.zeros((), **like), torch.full((), math.inf, **like)
            self._losses[name] = zero, zero.clone(), never
        return self._losses[name]

    def report(self) -> dict[str, float]:
        """The mean of each loss since the last report, over all ranks; the sums start again."""
        if not self._losses:
            return {}
        totals, steps, _ = (torch.stack(each) for each in zip(*self._losses.values(), strict=True))
        means = (distributed.average(totals) / steps.clamp(min=1)).tolist()
        for total, count, _ in self._losses.values():
            total.zero_()
            count.zero_()
        return dict(zip(self._losses, means, strict=True))

    def broken(self) -> tuple[int, list[str]] | None:
        """The first image count at which a loss was not finite, and which were not then; else None."""
        if not self._losses:
            return None
        each = distributed.minimum(torch.stack([bad for _, _, bad in self._losses.values()])).tolist()
        first = min(each)
        names = [name for name, images in zip(self._losses, each, strict=True) if images == first]
        return (int(first), names) if first < math.inf else None

    def state(self) -> dict[str, Tensor]:
        """Unreported sums, by place and loss, as (sum, steps) in float64, so that a resumed report is the same."""
        return {
            f"{place:03d}/{name}": torch.stack((total, steps)).cpu().double()
            for place, (name, (total, steps, _)) in enumerate(self._losses.items())
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Load what `state` gave, in the order of the places; a file has another order."""
        for key in sorted(state):
            for mine, saved in zip(self._of(key.split("/")[-1]), state[key], strict=False):
                mine.copy_(saved)


def counting(device: torch.device) -> torch.dtype:
    """The dtype of sums and image counts: float32 on a GPU, where float64 is slow, or missing on Apple's."""
    return torch.float64 if device.type == "cpu" else torch.float32
