"""CycleGAN: unpaired translation by cycle consistency (Zhu et al. 2017, arXiv 1703.10593)."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from twofold.losses.perceptual import Perceptual
from twofold.methods.adversarial import LSGAN, Adversary
from twofold.methods.base import Batch, Method, Update, change, l1, one_pass
from twofold.methods.recent import REAL, TIMES, TRANSLATED, Recent
from twofold.methods.replay import ReplayBuffer
from twofold.networks.layers import Discriminator, Generator


class Way(NamedTuple):
    """One way, from domain x to domain y and back: networks, and the weights of its losses."""

    x: str
    y: str
    there: Generator
    back: Generator
    critic: Discriminator
    """Of y's images."""
    rec_critic: Discriminator | None
    """Of x's images that have come back."""
    gan: float
    cycle: float
    identity: float


class CycleGAN(Method):
    """Two generators, two critics, and the objective of the paper's equation 3 with §5.2's identity loss.

    Args:
        gen_ab, gen_ba: translate (N, C, H, W) in [-1, 1] from A to B and from B to A.
        disc_a, disc_b: judge images of domain A and of domain B; logits of any shape.
        rec_disc_a, rec_disc_b: critics of the cycles, which then are adversarial too: they tell an image of A (of
            B) from one that has gone there and back (§3.2, reported as no better than L1).
        adversary: the adversarial loss and what goes with it.
        gan_ab, gan_ba: weights of the adversarial terms of equation 1; 0 leaves out the term and its critic.
        cycle_a, cycle_b: weights of |gen_ba(gen_ab(a)) - a| and |gen_ab(gen_ba(b)) - b|, equation 2; of the
            adversarial cycles' terms, where those have critics.
        identity: weight of |gen_ba(a) - a| and |gen_ab(b) - b|, as a share of the domain's cycle weight.
        mask: weight of |gen_ab(a) - a| and |gen_ba(b) - b| where the batch's masks say that images are to be kept.
        replay: capacity of each domain's replay buffer.
        rehearsals: further updates of the critics after each batch, from what they have seen of late: the generators
            gain by critics that know more (Heusel et al. 2017, arXiv 1706.08500, give them a higher rate instead).
        perceptual: compares images with what came back of them once more, in a network's features.
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
        adversary: Adversary = LSGAN,
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
        self.adversary = adversary
        self.period, self.penalises = adversary.critic_steps, adversary.penalises
        self.gan_ab, self.gan_ba = gan_ab, gan_ba
        self.cycle_a, self.cycle_b = cycle_a, cycle_b
        self.idt_a, self.idt_b = identity * cycle_a, identity * cycle_b
        self.replay_a, self.replay_b = ReplayBuffer(replay), ReplayBuffer(replay)
        self.recent_updates = recent_updates
        kept = {"real": REAL, "fake": TRANSLATED}
        self.recent = {f"{kind}_{domain}": Recent(kept[kind]) for kind in kept for domain in "ab"}
        self.mask, self.perceptual = mask, perceptual

    def step(self, batch: Batch) -> Iterator[Update]:
        a, b, turn, mask_a, mask_b = batch
        if self.adversary.generators_learn(turn):
            fake_b, back_a, losses = self.travel(self.ways["ab"], a, b, mask_a)
            yield Update(
                "G", losses, complete=False
            )  # its activations are gone before the other way's are made
            fake_a, back_b, losses = self.travel(self.ways["ba"], b, a, mask_b)
            yield Update("G", losses)
        else:
            with torch.no_grad():
                fake_b, fake_a = self.gen_ab(a), self.gen_ba(b)
                back_a = self.gen_ba(fake_b) if self.rec_disc_a else None
                back_b = self.gen_ab(fake_a) if self.rec_disc_b else None

        losses = {}
        seen = {"a": (a, fake_a, self.replay_a), "b": (b, fake_b, self.replay_b)}
        for domain, disc in self.critics:
            real, fake, past = seen[domain]
            losses[f"disc_{domain}"] = self.adversary.judge(disc, real, past.exchange(fake))
        if self.rec_disc_a and back_a is not None:
            losses["rec_disc_a"] = self.adversary.judge(self.rec_disc_a, a, back_a)
        if self.rec_disc_b and back_b is not None:
            losses["rec_disc_b"] = self.adversary.judge(self.rec_disc_b, b, back_b)
        if losses:
            yield Update("D", losses)
        if self.recent_updates:
            for name, images in (("real_a", a), ("fake_a", fake_a), ("real_b", b), ("fake_b", fake_b)):
                self.recent[name].keep(images)
        for _ in range(self.recent_updates):
            yield Update("D", self.rehearse(TIMES * len(a)))

    def rehearse(self, count: int) -> dict[str, Tensor]:
        """The critics' losses on `count` real and translated images of late."""
        losses = {}
        for domain, disc in self.critics:
            real, fake = (self.recent[f"{kind}_{domain}"].draw(count) for kind in ("real", "fake"))
            losses[f"disc_{domain}"] = self.adversary.judge(disc, real, fake)
        return losses

    @property
    def critics(self) -> list[tuple[str, Discriminator]]:
        """Those whose verdict has a weight, each with the domain that it judges."""
        both = (("a", self.disc_a, self.gan_ba), ("b", self.disc_b, self.gan_ab))
        return [(domain, disc) for domain, disc, weight in both if weight]

    @property
    def ways(self) -> dict[str, Way]:
        """Both ways: which networks one goes through, and the weights of its losses."""
        there = (self.gen_ab, self.gen_ba, self.disc_b, self.rec_disc_a)
        back = (self.gen_ba, self.gen_ab, self.disc_a, self.rec_disc_b)
        return {
            "ab": Way("a", "b", *there, self.gan_ab, self.cycle_a, self.idt_b),
            "ba": Way("b", "a", *back, self.gan_ba, self.cycle_b, self.idt_a),
        }

    def travel(
        self, way: Way, x: Tensor, y: Tensor, keep: Tensor | None
    ) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """The translation of x, what comes back of it, and the generators' losses on the way."""
        fake, same = one_pass(way.there, x, y) if way.identity else (way.there(x), None)
        back = way.back(fake) if way.cycle else None
        losses: dict[str, Tensor] = {}
        if way.gan:
            losses[f"gan_{way.x}{way.y}"] = way.gan * self.adversary.deceive(way.critic, fake)
        if back is not None:
            losses[f"cycle_{way.x}"] = way.cycle * self.unlike(back, x, way.rec_critic)
        if same is not None:
            losses[f"idt_{way.y}"] = way.identity * l1(same, y)
        if self.mask and keep is not None:
            losses[f"mask_{way.x}"] = self.mask * change(fake, x, keep)
        if self.perceptual and back is not None:
            losses[f"perceptual_{way.x}"] = self.perceptual(back, x)
        return fake.detach(), None if back is None else back.detach(), losses

    def unlike(self, back: Tensor, image: Tensor, critic: Discriminator | None) -> Tensor:
        """How far an image has come back from where it started: in L1, or as the cycle's critic sees it."""
        return l1(back, image) if critic is None else self.adversary.deceive(critic, back)

    def memory(self) -> dict[str, Tensor]:
        buffers = {"replay_a": self.replay_a, "replay_b": self.replay_b}
        past = {
            f"{name}/{place:06d}": image
            for name, buffer in buffers.items()
            for place, image in enumerate(buffer.content())
        }
        recent = {f"{name}/{k}": x for name, kept in self.recent.items() for k, x in kept.content().items()}
        return past | recent

    def recall(self, memory: dict[str, Tensor]) -> None:
        for name, buffer in (("replay_a", self.replay_a), ("replay_b", self.replay_b)):
            buffer.refill(memory[key] for key in sorted(memory) if key.split("/")[0] == name)
        for name, kept in self.recent.items():
            kept.refill({k: memory[f"{name}/{k}"] for k in ("rows", "count") if f"{name}/{k}" in memory})
