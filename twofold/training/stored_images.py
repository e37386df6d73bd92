"""State dicts of `methods.replay.ImageStorage`: `count`, and `rows`, or image_000000 and so on if sizes differ."""

from collections.abc import Sequence

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


def deal_out(states: Sequence[Tensors], capacity: int, rank: int, world: int) -> Tensors:
    """The part of one of `world` processes in the images of others; what is more than `capacity` is left out.

    Args:
        states: of one storage, from each earlier process.
    """
    images = [image for state in states for image in content(state, capacity)]
    separate = any(name.startswith("image_") for state in states for name in state)
    rows = max((len(state["rows"]) for state in states if "rows" in state), default=0)
    return as_state(images[rank::world][:capacity], 0 if separate else rows)


def content(state: Tensors, capacity: int) -> list[Tensor]:
    """The images of one storage, (1, C, H, W) each."""
    if "rows" in state:
        return [state["rows"][[place]] for place in range(min(int(state["count"]), capacity))]
    return [image for name, image in sorted(state.items()) if name.startswith("image_")]


def as_state(images: Sequence[Tensor], rows: int) -> Tensors:
    """The state dict of a storage with these images, (1, C, H, W) each; `rows` is 0 if their sizes differ."""
    count = {"count": torch.tensor([len(images)])}
    if not images:
        return count
    if not rows:
        return count | {f"image_{place:06d}": image for place, image in enumerate(images)}
    empty = images[0].new_zeros(rows - len(images), *images[0].shape[1:])
    return count | {"rows": torch.cat([*images, empty])}
