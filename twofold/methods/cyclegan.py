"""CycleGAN: unpaired translation by cycle consistency (Zhu et al. 2017, arXiv 1703.10593)."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from twofold.losses.perceptual import Perceptual
from twofold.methods.adversarial import LSGAN, AdversarialObjective
from twofold.methods.base import Batch, Method, Update, apply_to_each, l1, masked_l1
from twofold.methods.replay import DRAWN_PER_IMAGE, KEPT_REAL, KEPT_TRANSLATED, RecentImages, ReplayBuffer
from twofold.networks.layers import Discriminator, Generator


class Direction(NamedTuple):
    """One direction, x → y → x: its networks and the weights of its losses."""

    x: str
    y: str
    forward: Generator
    back: Generator
    disc_y: Discriminator
    rec_disc_x: Discriminator | None
    gan: float
    cycle: float
    identity: float


class CycleGAN(Method):
    """Two generators, two discriminators, and the objective of the paper's equation 3 with §5.2's identity loss.

    Args:
        gen_ab, gen_ba: translate (N, C, H, W) in [-1, 1] from A to B and from B to A.
        disc_a, disc_b: judge images of domain A and of domain B; logits of any shape.
        rec_disc_a, rec_disc_b: make the cycle loss adversarial: they tell images of A (of B) from images that were
            translated and back (§3.2, which reports no gain over L1).
        adversarial: the adversarial objective.
        gan_ab, gan_ba: weights of the adversarial terms of equation 1; 0 leaves out the term and its discriminator.
        cycle_a, cycle_b: weights of |gen_ba(gen_ab(a)) − a| and |gen_ab(gen_ba(b)) − b|, equation 2, or of the
            adversarial cycle loss.
        identity: weight of |gen_ba(a) − a| and |gen_ab(b) − b|, as a share of the domain's cycle weight.
        mask: weight of |gen_ab(a) − a| and |gen_ba(b) − b| inside the batch's masks.
        replay: capacity of each domain's replay buffer.
        recent_updates: extra discriminator updates on recent images after each batch. Our own addition, no
            paper; a higher discriminator rate (Heusel et al. 2017, arXiv 1706.08500) has the same purpose.
        perceptual: a further loss between images and their reconstructions, in a network's features.
    """

    def __init__(
        self,
        gen_ab: Generator,
        gen_ba: Generator,
        disc_a: Discriminator,
        disc_b: Discriminator,
        rec_disc_a: Discriminator | None = None,
        rec_disc_b: Discriminator | None = None,
        *,
        adversarial: AdversarialObjective = LSGAN,
        gan_ab: float = 1.0,
        gan_ba: float = 1.0,
        cycle_a: float = 10.0,
        cycle_b: float = 10.0,
        identity: float = 0.5,
        mask: float = 0.0,
        replay: int = 50,
        recent_updates: int = 0,
        perceptual: Perceptual | None = None,
    ) -> None:
        super().__init__()
        self.gen_ab, self.gen_ba, self.disc_a, self.disc_b = gen_ab, gen_ba, disc_a, disc_b
        self.rec_disc_a, self.rec_disc_b = rec_disc_a, rec_disc_b
        of_cycles = () if rec_disc_a is None else ("rec_disc_a", "rec_disc_b")
        self.translators = {"ab": "gen_ab", "ba": "gen_ba"}
        self.phases = {"G": ("gen_ab", "gen_ba"), "D": ("disc_a", "disc_b", *of_cycles)}
        self.adversarial = adversarial
        self.gan_ab, self.gan_ba, self.cycle_a, self.cycle_b = gan_ab, gan_ba, cycle_a, cycle_b
        self.identity, self.mask, self.perceptual = identity, mask, perceptual
        self.replay_a, self.replay_b = ReplayBuffer(replay), ReplayBuffer(replay)
        self.recent_updates = recent_updates
        kept = {"real": KEPT_REAL, "fake": KEPT_TRANSLATED} if recent_updates else {}
        recent = {f"{kind}_{domain}": RecentImages(kept[kind]) for kind in kept for domain in "ab"}
        self.recent = nn.ModuleDict(recent)

    def step(self, batch: Batch) -> Iterator[Update]:
        a, b = batch.a, batch.b
        if self.generators_learn(batch.number):
            fake_b, rec_a, losses = self.one_direction(self.a_to_b, a, b, batch.mask_a)
            yield Update("G", losses, complete=False)  # frees this direction's activations before the other's
            fake_a, rec_b, losses = self.one_direction(self.b_to_a, b, a, batch.mask_b)
            yield Update("G", losses)
        else:
            with torch.no_grad():
                fake_b, fake_a = self.gen_ab(a), self.gen_ba(b)
                rec_a = self.gen_ba(fake_b) if self.rec_disc_a else None
                rec_b = self.gen_ab(fake_a) if self.rec_disc_b else None

        losses, disc_loss = {}, self.adversarial.discriminator_loss
        if self.gan_ba:
            losses["disc_a"] = disc_loss(self.disc_a, a, self.replay_a.exchange(fake_a))
        if self.gan_ab:
            losses["disc_b"] = disc_loss(self.disc_b, b, self.replay_b.exchange(fake_b))
        if self.rec_disc_a and rec_a is not None:
            losses["rec_disc_a"] = disc_loss(self.rec_disc_a, a, rec_a)
        if self.rec_disc_b and rec_b is not None:
            losses["rec_disc_b"] = disc_loss(self.rec_disc_b, b, rec_b)
        if losses:
            yield Update("D", losses)
        if self.recent_updates:
            yield from self.update_on_recent({"real_a": a, "fake_a": fake_a, "real_b": b, "fake_b": fake_b})

    @property
    def a_to_b(self) -> Direction:
        networks = (self.gen_ab, self.gen_ba, self.disc_b, self.rec_disc_a)
        return Direction("a", "b", *networks, self.gan_ab, self.cycle_a, self.identity * self.cycle_b)

    @property
    def b_to_a(self) -> Direction:
        networks = (self.gen_ba, self.gen_ab, self.disc_a, self.rec_disc_b)
        return Direction("b", "a", *networks, self.gan_ba, self.cycle_b, self.identity * self.cycle_a)

    def one_direction(
        self, direction: Direction, x: Tensor, y: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """The translation of x, its reconstruction, and the generators' losses of this direction."""
        name_x, name_y, gen, gen_back, disc_y, rec_disc_x, gan, cycle, identity = direction
        fake_y, same_y = apply_to_each(gen, x, y) if identity else (gen(x), None)
        rec_x = gen_back(fake_y) if cycle else None
        losses: dict[str, Tensor] = {}
        if gan:
            losses[f"gan_{name_x}{name_y}"] = gan * self.adversarial.generator_loss(disc_y, fake_y)
        if rec_x is not None:
            losses[f"cycle_{name_x}"] = cycle * self.cycle_loss(rec_x, x, rec_disc_x)
        if same_y is not None:
            losses[f"idt_{name_y}"] = identity * l1(same_y, y)
        if self.mask and mask is not None:
            losses[f"mask_{name_x}"] = self.mask * masked_l1(fake_y, x, mask)
        if self.perceptual and rec_x is not None:
            losses[f"perceptual_{name_x}"] = self.perceptual(rec_x, x)
        return fake_y.detach(), None if rec_x is None else rec_x.detach(), losses

    def cycle_loss(self, rec: Tensor, image: Tensor, rec_disc: Discriminator | None) -> Tensor:
        """The distance of a reconstruction from its image: L1, or the loss against the cycle's discriminator."""
        return l1(rec, image) if rec_disc is None else self.adversarial.generator_loss(rec_disc, rec)

    def update_on_recent(self, images: dict[str, Tensor]) -> Iterator[Update]:
        """Store this batch's images, then yield the extra discriminator updates on recent ones."""
        recent = {name: storage for name, storage in self.recent.items() if isinstance(storage, RecentImages)}
        for name, storage in recent.items():
            storage.keep(images[name])
        count = DRAWN_PER_IMAGE * len(images["real_a"])
        discs = {"a": self.disc_a if self.gan_ba else None, "b": self.disc_b if self.gan_ab else None}
        for _ in range(self.recent_updates):
            losses = {}
            for domain, disc in discs.items():
                if disc is not None:
                    drawn = recent[f"real_{domain}"].draw(count), recent[f"fake_{domain}"].draw(count)
                    losses[f"disc_{domain}"] = self.adversarial.discriminator_loss(disc, *drawn)
            yield Update("D", losses)
