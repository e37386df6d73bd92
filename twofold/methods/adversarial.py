"""How generators and critics play against each other, the same for every method."""

from typing import NamedTuple

import torch
from torch import Tensor

from twofold.losses.adversarial import AdversarialName, Logits, discriminator_loss, frozen, generator_loss
from twofold.losses.augment import AugmentName, augmented
from twofold.losses.penalties import gradient_penalty, r1_penalty
from twofold.networks.layers import Discriminator, in_parts


class Adversary(NamedTuple):
    """An adversarial loss and what goes with it.

    Attributes:
        loss: see `losses.adversarial`.
        gradient_penalty: weight of WGAN-GP's penalty; only with "wgan".
        r1: weight γ of the R1 penalty, with any loss; 0 leaves it out.
        critic_steps: batches on which the critics learn for each one on which the generators learn too.
        augment: how every image that a critic sees, real or translated, is varied.
    """

    loss: AdversarialName = "lsgan"
    gradient_penalty: float = 10.0
    r1: float = 0.0
    critic_steps: int = 1
    augment: tuple[AugmentName, ...] = ()

    def generators_learn(self, turn: int) -> bool:
        """Whether the generators learn from the batch of this number: the last of every `critic_steps`."""
        return (turn + 1) % self.critic_steps == 0

    @property
    def penalises(self) -> bool:
        """Whether a critic's gradient is part of its loss."""
        return bool(self.r1 or (self.loss == "wgan" and self.gradient_penalty))

    def deceive(self, disc: Discriminator, fake: Tensor) -> Tensor:
        """The generator's term for its translations `fake`, (N, C, H, W).

        The gradient reaches `fake` and no weight of the critic, which is as it was after the call.
        """
        with frozen(disc):
            return generator_loss(self.loss, disc(augmented(fake, self.augment)))

    def judge(self, disc: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """A critic's loss for real images and translations, (N, C, H, W) each; no gradient reaches either."""
        real, fake = augmented(real, self.augment), augmented(fake.detach(), self.augment)
        loss = discriminator_loss(self.loss, *both_logits(disc, real, fake))
        if self.loss == "wgan" and self.gradient_penalty:
            loss = loss + self.gradient_penalty * gradient_penalty(disc, real, fake)
        if self.r1:
            loss = loss + self.r1 * r1_penalty(disc, real)
        return loss


LSGAN, BCE = Adversary(), Adversary("bce")


def both_logits(disc: Discriminator, real: Tensor, fake: Tensor) -> tuple[Logits, Logits]:
    """A critic's logits for real and translated images, in one call where they are as many and of one size."""
    if real.shape != fake.shape:
        return disc(real), disc(fake)
    with in_parts(disc, 2):
        logits = disc(torch.cat((real, fake)))
    if isinstance(logits, tuple):  # several critics
        return tuple(x[: len(real)] for x in logits), tuple(x[len(real) :] for x in logits)
    return logits[: len(real)], logits[len(real) :]
