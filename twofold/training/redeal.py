"""Stored images of a run that resumes with another number of processes."""

import torch
from torch import Tensor


def deal_out(states: list[dict[str, Tensor]], capacity: int, rank: int, world: int) -> dict[str, Tensor]:
    """The part of one of `world` processes in the images that others have stored; the rest is left out if it is full.

    Args:
        states: of one image storage, from each earlier process.
        capacity: of the storage.

    Returns:
        The state of the same storage for `rank`.
    """
    images = [image for state in states for image in stored(state, capacity)]
    own = images[rank::world][:capacity]
    found = {"count": torch.tensor([len(own)])}
    if any(name.startswith("image_") for state in states for name in state):  # of several sizes
        return found | {f"image_{place:06d}": image for place, image in enumerate(own)}
    if not own:
        return found
    rows = next(state["rows"] for state in states if "rows" in state)
    return found | {"rows": torch.cat([*own, torch.zeros_like(rows)])[: len(rows)]}


def stored(state: dict[str, Tensor], capacity: int) -> list[Tensor]:
    """The images of one storage, (1, C, H, W) each."""
    if "rows" in state:
        return [state["rows"][[place]] for place in range(min(int(state["count"]), capacity))]
    return [image for name, image in sorted(state.items()) if name.startswith("image_")]
