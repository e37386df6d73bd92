"""CycleGAN: unpaired translation by cycle consistency (Zhu et al. 2017, arXiv 1703.10593)."""

from collections.abc import Iterator
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from twofold.losses.adversarial import AdversarialName, deceive, discriminator_loss
from twofold.methods.base import Batch, Method, Update, one_pass
from twofold.methods.replay import ReplayBuffer
from twofold.networks.layers import Discriminator, Generator


class CycleGAN(Method):
    """Two generators, two critics, and the objective of the paper's equation 3 with §5.2's identity loss.

    Args:
        gen_ab, gen_ba: translate (N, C, H, W) in [-1, 1] from A to B and from B to A.
        disc_a, disc_b: judge images of domain A and of domain B; logits of any shape.
        gan_ab, gan_ba: weights of the adversarial terms of equation 1; 0 leaves out the term and its critic.
        cycle_a, cycle_b: weights of |gen_ba(gen_ab(a)) - a| and |gen_ab(gen_ba(b)) - b|, equation 2.
        identity: weight of |gen_ba(a) - a| and |gen_ab(b) - b|, as a share of the domain's cycle weight.
        replay: capacity of each domain's replay buffer.
    """

    phases: ClassVar = {"G": ("gen_ab", "gen_ba"), "D": ("disc_a", "disc_b")}
    translators: ClassVar = {"ab": "gen_ab", "ba": "gen_ba"}

    def __init__(
        self,
        gen_ab: Generator,
        gen_ba: Generator,
        disc_a: Discriminator,
        disc_b: Discriminator,
        *,
        adversarial: AdversarialName = "lsgan",
        gan_ab: float = 1.0,
        gan_ba: float = 1.0,
        cycle_a: float = 10.0,
        cycle_b: float = 10.0,
        identity: float = 0.5,
        replay: int = 50,
    ) -> None:
        super().__init__()
        self.gen_ab, self.gen_ba, self.disc_a, self.disc_b = gen_ab, gen_ba, disc_a, disc_b
        self.adversarial: AdversarialName = adversarial
        self.gan_ab, self.gan_ba = gan_ab, gan_ba
        self.cycle_a, self.cycle_b = cycle_a, cycle_b
        self.idt_a, self.idt_b = identity * cycle_a, identity * cycle_b
        self.replay_a, self.replay_b = ReplayBuffer(replay), ReplayBuffer(replay)

    def step(self, batch: Batch) -> Iterator[Update]:
        a, b = batch
        fake_b, same_b = one_pass(self.gen_ab, a, b) if self.idt_b else (self.gen_ab(a), None)
        fake_a, same_a = one_pass(self.gen_ba, b, a) if self.idt_a else (self.gen_ba(b), None)
        losses: dict[str, Tensor] = {}
        if self.gan_ab:
            losses["gan_ab"] = self.gan_ab * deceive(self.disc_b, fake_b, self.adversarial)
        if self.gan_ba:
            losses["gan_ba"] = self.gan_ba * deceive(self.disc_a, fake_a, self.adversarial)
        if self.cycle_a:
            losses["cycle_a"] = self.cycle_a * l1(self.gen_ba(fake_b), a)
        if self.cycle_b:
            losses["cycle_b"] = self.cycle_b * l1(self.gen_ab(fake_a), b)
        if same_a is not None:
            losses["idt_a"] = self.idt_a * l1(same_a, a)
        if same_b is not None:
            losses["idt_b"] = self.idt_b * l1(same_b, b)
        yield Update("G", losses)

        losses = {}
        if self.gan_ba:
            losses["disc_a"] = self.judge(self.disc_a, a, self.replay_a.exchange(fake_a))
        if self.gan_ab:
            losses["disc_b"] = self.judge(self.disc_b, b, self.replay_b.exchange(fake_b))
        if losses:
            yield Update("D", losses)

    def judge(self, disc: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """A critic's loss: half the sum over real and translated images, which slows it down (§7.1)."""
        return discriminator_loss(self.adversarial, *one_pass(disc, real, fake))

    def memory(self) -> dict[str, Tensor]:
        buffers = {"replay_a": self.replay_a, "replay_b": self.replay_b}
        return {
            f"{name}/{place:06d}": image
            for name, buffer in buffers.items()
            for place, image in enumerate(buffer.content())
        }

    def recall(self, memory: dict[str, Tensor]) -> None:
        for name, buffer in (("replay_a", self.replay_a), ("replay_b", self.replay_b)):
            buffer.refill(memory[key] for key in sorted(memory) if key.split("/")[0] == name)


def l1(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute difference, in float32 at least."""
    return F.l1_loss(x.to(y.dtype), y)
