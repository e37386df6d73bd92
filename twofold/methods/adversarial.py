"""The adversarial objective: how generators and discriminators train against each other, the same for every method."""

from typing import NamedTuple

import torch
from torch import Tensor

from twofold.losses.adversarial import AdversarialName, Logits, discriminator_loss, frozen, generator_loss
from twofold.losses.augment import AugmentName, augmented
from twofold.losses.penalties import gradient_penalty, r1_penalty
from twofold.networks.layers import Discriminator, in_parts


class AdversarialObjective(NamedTuple):
    """An adversarial loss with its penalties and augmentation.

    Attributes:
        loss: see `losses.adversarial`.
        gradient_penalty: weight of WGAN-GP's penalty; only with "wgan".
        r1: weight γ of the R1 penalty, with any loss; 0 leaves it out.
        critic_steps: discriminator updates for each generator update: WGAN-GP's n_critic.
        augment: operations on every image that a discriminator sees, real or translated.
    """

    loss: AdversarialName = "lsgan"
    gradient_penalty: float = 10.0
    r1: float = 0.0
    critic_steps: int = 1
    augment: tuple[AugmentName, ...] = ()

    def updates_generators(self, batch_number: int) -> bool:
        """Whether the generators learn from this batch: they do from the last of every `critic_steps`."""
        return (batch_number + 1) % self.critic_steps == 0

    @property
    def penalises_gradients(self) -> bool:
        """Whether a discriminator's gradient is part of its loss."""
        return bool(self.r1 or (self.loss == "wgan" and self.gradient_penalty))

    def generator_loss(self, disc: Discriminator, fake: Tensor) -> Tensor:
        """The loss of a generator for its translations `fake`, (N, C, H, W); no gradient reaches `disc`."""
        with frozen(disc):
            return generator_loss(self.loss, disc(augmented(fake, self.augment)))

    def discriminator_loss(self, disc: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """The loss of `disc` for real images and translations, (N, C, H, W); no gradient reaches the images."""
        real, fake = augmented(real, self.augment), augmented(fake.detach(), self.augment)
        loss = discriminator_loss(self.loss, *both_logits(disc, real, fake))
        if self.loss == "wgan" and self.gradient_penalty:
            loss = loss + self.gradient_penalty * gradient_penalty(disc, real, fake)
        if self.r1:
            loss = loss + self.r1 * r1_penalty(disc, real)
        return loss


LSGAN, BCE = AdversarialObjective(), AdversarialObjective("bce")


def both_logits(disc: Discriminator, real: Tensor, fake: Tensor) -> tuple[Logits, Logits]:
    """The logits of real and translated images, computed in one call where their shapes agree."""
    if real.shape != fake.shape:
        return disc(real), disc(fake)
    with in_parts(disc, 2):
        logits = disc(torch.cat((real, fake)))
    if isinstance(logits, tuple):  # of several discriminators
        return tuple(x[: len(real)] for x in logits), tuple(x[len(real) :] for x in logits)
    return logits[: len(real)], logits[len(real) :]
