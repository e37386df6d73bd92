"""Adam without the copies of channels-last weights that torch's fused Adam makes on a CPU."""

from typing import Any

import torch
from torch import Tensor


class Adam(torch.optim.Adam):
    """torch's Adam on views of channels-last tensors that are contiguous."""

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = super()._init_group(group, *lists)
        for tensors in lists:  # parameters, gradients, moments, counts
            tensors[:] = [as_it_lies(tensor) for tensor in tensors]
        return found


def as_it_lies(tensor: Tensor) -> Tensor:
    """A view of a channels-last (N, C, H, W) as (N, H, W, C); of any other, itself."""
    if tensor.device.type == "cpu" and tensor.dim() == 4 and not tensor.is_contiguous():
        view = tensor.permute(0, 2, 3, 1)
        return view if view.is_contiguous() else tensor
    return tensor
