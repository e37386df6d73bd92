"""Base of the training methods: some networks, and a step that yields the losses to minimise, in order."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twofold.methods.adversarial import LSGAN, AdversarialObjective
from twofold.methods.replay import ImageStorage
from twofold.networks.layers import Generator


class Batch(NamedTuple):
    """Images of both domains on the training device: float, (N, C, H, W), in [-1, 1]."""

    a: Tensor
    b: Tensor
    number: int = 0
    """Batches before this one in the run."""
    mask_a: Tensor | None = None
    """(N, 1, H, W), 1 where translation must leave A unchanged, 0 elsewhere; None: everything may change."""
    mask_b: Tensor | None = None


class Update(NamedTuple):
    """Losses to minimise with one phase's optimizer: weighted scalars, whose sum is the objective."""

    phase: str
    losses: dict[str, Tensor]
    complete: bool = True
    """Whether the optimizer steps now; if not, the gradients are added to those of the phase's next update."""


class Method(nn.Module):
    """Base of every method.

    A subclass holds its networks as attributes and writes `step` as the paper does. The trainer runs `step` up to
    an `Update`, backpropagates its losses into that phase's networks only, steps that phase's optimizer, and
    resumes `step`. A method never freezes, zeroes or steps anything.

    Attributes:
        phases: the networks that each optimizer trains. Phase "D" holds the discriminators.
        translators: the generator that is saved for each direction.
        noise: the generators' dropout is noise, and stays on at test time.
        adversarial: how generators and discriminators train against each other.
    """

    phases: dict[str, tuple[str, ...]]
    translators: dict[str, str]
    noise: bool = False
    adversarial: AdversarialObjective = LSGAN

    @abstractmethod
    def step(self, batch: Batch) -> Iterator[Update]:
        """Yield the updates of one training step on one batch."""

    def generators_learn(self, number: int) -> bool:
        """Whether the generators learn from batch `number`. Steps with one answer do the same work."""
        return self.adversarial.updates_generators(number)

    @property
    def penalises_gradients(self) -> bool:
        """Whether a loss contains the gradient of a discriminator."""
        return self.adversarial.penalises_gradients

    def networks(self) -> dict[str, nn.Module]:
        """Every trained network by name, in the order of the phases."""
        return {name: self.get_submodule(name) for names in self.phases.values() for name in names}

    def image_storages(self) -> dict[str, ImageStorage]:
        """Every replay buffer and store of recent images by name. Each process has its own content in them."""
        return {name: module for name, module in self.named_modules() if isinstance(module, ImageStorage)}


def can_batch(network: Generator, inputs: Sequence[Tensor]) -> bool:
    """Whether one call of `network` may take all inputs: they have one size, and no layer mixes images."""
    return network.per_image and all(x.shape[1:] == inputs[0].shape[1:] for x in inputs)


def apply_to_each(network: Generator, *inputs: Tensor) -> tuple[Tensor, ...]:
    """`network` applied to each input, in one call where possible, which is faster."""
    if can_batch(network, inputs):
        return network(torch.cat(inputs)).split([len(x) for x in inputs])
    return tuple(network(x) for x in inputs)


def masked_l1(translated: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    """The mean over all pixels of mask · |translated − source|: the change where there should be none."""
    return l1(translated * mask, source * mask)


def l1(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute difference, in float32 at least."""
    return F.l1_loss(x.to(y.dtype), y)
