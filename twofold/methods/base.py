"""What a training method is: some networks, and a step that yields what to minimise, in order."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twofold.networks.layers import Generator


class Batch(NamedTuple):
    """Images of both domains on the training device: float, (N, C, H, W), in [-1, 1]."""

    a: Tensor
    b: Tensor
    turn: int = 0
    """How many batches came before it in the run."""
    mask_a: Tensor | None = None
    """(N, 1, H, W), 1 where translation is to leave A as it is and 0 elsewhere; None: anything may change."""
    mask_b: Tensor | None = None


class Update(NamedTuple):
    """ "Minimise the sum of these with that phase's optimizer." Losses are weighted scalars."""

    phase: str
    losses: dict[str, Tensor]
    complete: bool = True
    """Whether to step now; else the gradients wait for those of that phase's next update."""


class Method(nn.Module):
    """Base of every method.

    A subclass holds its networks as attributes, names in `phases` which of them each optimizer owns
    (those of "D", the critics, may have a learning rate of their own), in
    `translators` which generator ships for each direction, and writes `step` as the paper does. The trainer
    runs `step` up to an `Update`, backpropagates its losses into that phase's networks alone, steps the
    optimizer, and resumes; so a method never freezes, zeroes or steps anything.
    """

    phases: dict[str, tuple[str, ...]]
    translators: dict[str, str]
    noise: bool = False
    """Whether the generators' dropout is noise that stays at test time."""
    period: int = 1
    """After so many batches a step does the same again: it depends on the batch's turn modulo this alone."""
    penalises: bool = False
    """Whether critics are asked for gradients that are then part of a loss."""

    @abstractmethod
    def step(self, batch: Batch) -> Iterator[Update]:
        """Yield the updates of one training step on one batch."""

    def networks(self) -> dict[str, nn.Module]:
        """Every network by name, in the order of the phases."""
        return {name: self.get_submodule(name) for names in self.phases.values() for name in names}

    def memory(self) -> dict[str, Tensor]:
        """State besides the weights that a resumed run needs, such as replay buffers."""
        return {}

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Take back what `memory` gave."""
        if memory:
            raise ValueError(f"{type(self).__name__} keeps no memory, got {sorted(memory)}")


def go_together(network: Generator, inputs: Sequence[Tensor]) -> bool:
    """Whether `network` may be applied to all of them at once: no layer mixes images, and they are of one size."""
    return network.per_image and all(x.shape[1:] == inputs[0].shape[1:] for x in inputs)


def one_pass(network: Generator, *inputs: Tensor) -> tuple[Tensor, ...]:
    """`network` applied to each input, for speed in one call where they go together."""
    if go_together(network, inputs):
        return network(torch.cat(inputs)).split([len(x) for x in inputs])
    return tuple(network(x) for x in inputs)


def change(translated: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    """How much translation has changed what `mask` says it must keep: the mean over all pixels of mask * |y - x|."""
    return l1(translated * mask, source * mask)


def l1(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute difference, in float32 at least."""
    return F.l1_loss(x.to(y.dtype), y)
