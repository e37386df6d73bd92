"""pix2pix: paired translation by a conditional GAN and L1 (Isola et al. 2017, arXiv 1611.07004)."""

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from twofold.losses.perceptual import Perceptual
from twofold.methods.adversarial import BCE, AdversarialObjective
from twofold.methods.base import Batch, Method, Update, l1
from twofold.networks.layers import Discriminator, Generator


class Pix2Pix(Method):
    """A generator, a conditional discriminator, and the objective of the paper's equation 4.

    The noise z is the generator's dropout (§3.2). The discriminator learns first, then the generator, from the same
    translation.

    Args:
        gen_ab: translates (N, C, H, W) in [-1, 1] from A to B.
        disc_b: judges input and output together, (N, C_a + C_b, H, W); the output alone if not `conditional`.
        adversarial: the adversarial objective.
        conditional: whether the discriminator sees the input (cGAN) or not (GAN).
        gan: weight of the adversarial term; 0 leaves it out with its discriminator.
        distance: weight of the distance to the ground truth, equation 3.
        norm: of that distance: mean absolute or mean squared difference.
        perceptual: a further loss between translation and ground truth, in a network's features.
    """

    def __init__(
        self,
        gen_ab: Generator,
        disc_b: Discriminator,
        *,
        adversarial: AdversarialObjective = BCE,
        conditional: bool = True,
        gan: float = 1.0,
        distance: float = 100.0,
        norm: Literal["l1", "l2"] = "l1",
        perceptual: Perceptual | None = None,
    ) -> None:
        super().__init__()
        self.noise = True
        self.phases, self.translators = {"D": ("disc_b",), "G": ("gen_ab",)}, {"ab": "gen_ab"}
        self.gen_ab, self.disc_b = gen_ab, disc_b
        self.adversarial, self.conditional = adversarial, conditional
        self.gan, self.distance = gan, distance
        self.norm: Literal["l1", "l2"] = norm
        self.perceptual = perceptual

    def step(self, batch: Batch) -> Iterator[Update]:
        a, b = batch.a, batch.b
        learns = self.generators_learn(batch.number)
        with torch.set_grad_enabled(learns):
            fake_b = self.gen_ab(a)
        if self.gan:
            real, fake = self.disc_input(a, b), self.disc_input(a, fake_b.detach())
            yield Update("D", {"disc_b": self.adversarial.discriminator_loss(self.disc_b, real, fake)})
        if not learns:
            return
        losses: dict[str, Tensor] = {}
        if self.gan:
            fake = self.disc_input(a, fake_b)
            losses["gan_ab"] = self.gan * self.adversarial.generator_loss(self.disc_b, fake)
        if self.distance:
            distance = l1(fake_b, b) if self.norm == "l1" else F.mse_loss(fake_b.to(b.dtype), b)
            losses[self.norm] = self.distance * distance
        if self.perceptual:
            losses["perceptual"] = self.perceptual(fake_b, b)
        yield Update("G", losses)

    def disc_input(self, a: Tensor, b: Tensor) -> Tensor:
        """The pair that the discriminator judges, or b alone."""
        return torch.cat((a, b.to(a.dtype)), 1) if self.conditional else b
