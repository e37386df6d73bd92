"""CUT and FastCUT: unpaired translation one way, by patch-wise contrast (Park et al. 2020, arXiv 2007.15651)."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from twofold.losses.patchnce import PatchHeads, patch_contrast
from twofold.methods.adversarial import LSGAN, Adversary
from twofold.methods.base import Batch, Method, Update, change, go_together, one_pass
from twofold.methods.replay import ReplayBuffer
from twofold.networks.layers import Discriminator
from twofold.networks.resnet import ResnetGenerator


class CUT(Method):
    """A generator whose own encoder says what must survive, a critic, and the objective of the paper's equation 5.

    The critic learns first, then the generator with its heads, from the same translation.

    Args:
        gen_ab: translates (N, C, H, W) in [-1, 1] from A to B.
        disc_b: judges images of domain B.
        layers: of the generator whose features are compared, numbered as in `ResnetGenerator.features`.
        adversary: the adversarial loss and what goes with it.
        gan: weight of the adversarial term.
        nce: weight of the contrast between a and its translation.
        nce_identity: whether b and its translation are contrasted as well; the mean of both counts then.
        temperature: τ of the contrast.
        patches: places compared in each feature map, drawn anew for each step.
        head_width: of the networks that the features pass through.
        flip: FastCUT's flip equivariance: half of the time the generator translates the mirrored images, and
            the contrast compares places across the mirror.
        mask: weight of |gen_ab(a) - a| where the batch's masks say that images are to be kept.
        replay: capacity of the critic's replay buffer; the paper has none.
    """

    def __init__(
        self,
        gen_ab: ResnetGenerator,
        disc_b: Discriminator,
        *,
        layers: Sequence[int] = (0, 4, 8, 12, 16),
        adversary: Adversary = LSGAN,
        gan: float = 1.0,
        nce: float = 1.0,
        nce_identity: bool = True,
        temperature: float = 0.07,
        patches: int = 256,
        head_width: int = 256,
        flip: bool = False,
        mask: float = 0.0,
        replay: int = 0,
    ) -> None:
        super().__init__()
        self.phases, self.translators = {"D": ("disc_b",), "G": ("gen_ab", "heads")}, {"ab": "gen_ab"}
        self.gen_ab, self.disc_b = gen_ab, disc_b
        self.heads = PatchHeads(gen_ab.feature_channels(layers), head_width)
        self.layers, self.adversary = tuple(layers), adversary
        self.period, self.penalises = adversary.critic_steps, adversary.penalises
        self.gan, self.nce, self.nce_identity, self.mask = gan, nce, nce_identity, mask
        self.temperature, self.patches, self.flip = temperature, patches, flip
        self.replay_b = ReplayBuffer(replay)
        for (
            layer
        ) in layers:  # before a norm its bias has no gradient, but these features come before the norm
            conv = gen_ab.encoder()[layer - 1] if layer else None
            if isinstance(conv, nn.Conv2d) and conv.bias is not None:
                conv.bias.requires_grad_()

    def step(self, batch: Batch) -> Iterator[Update]:
        a, b, turn, mask_a, _ = batch
        learns = self.adversary.generators_learn(turn)
        mirrored = torch.rand((), device=a.device) < 0.5 if self.flip else None
        shown_a, shown_b = (mirror(x, mirrored) for x in (a, b))
        sources = (shown_a, shown_b) if self.nce_identity else (shown_a,)
        with torch.set_grad_enabled(learns):
            translated, keys = self.translate(sources)
        fake_b = translated[0]
        if self.gan:
            yield Update(
                "D", {"disc_b": self.adversary.judge(self.disc_b, b, self.replay_b.exchange(fake_b))}
            )
        if not learns:
            return
        losses: dict[str, Tensor] = {}
        if self.gan:
            losses["gan_ab"] = self.gan * self.adversary.deceive(self.disc_b, fake_b)
        if self.mask and mask_a is not None:
            losses["mask_a"] = self.mask * change(fake_b, shown_a, mirror(mask_a, mirrored))
        if keys is None:
            with torch.no_grad():
                keys = self.shown((a, b)[: len(translated)])
        weight = self.nce / len(translated)
        for name, queries, its in zip(("nce_a", "nce_b"), self.shown(translated), keys, strict=False):
            losses[name] = weight * self.contrast([mirror(x, mirrored) for x in queries], its)
        yield Update("G", losses)

    def translate(self, images: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], list[list[Tensor]] | None]:
        """The translations, and the images' features if those seen on the way are the contrast's keys.

        They are unless the contrast sees the images otherwise: unmirrored, or by another dropout.
        """
        if self.flip or self.gen_ab.arguments["dropout"] or not go_together(self.gen_ab, images):
            return one_pass(self.gen_ab, *images), None
        counts = [len(x) for x in images]
        translated, features = self.gen_ab.forward_with_features(torch.cat(images), self.layers)
        return translated.split(counts), apart([x.detach() for x in features], counts)

    def shown(self, images: tuple[Tensor, ...]) -> list[list[Tensor]]:
        """The generator's features of each image, in one pass where no layer mixes images."""
        if not go_together(self.gen_ab, images):
            return [self.gen_ab.features(x, self.layers) for x in images]
        return apart(self.gen_ab.features(torch.cat(images), self.layers), [len(x) for x in images])

    def contrast(self, queries: list[Tensor], keys: list[Tensor]) -> Tensor:
        """The mean over layers of the contrast between the features of a translation and those of its image (equations 4, 5)."""
        places = [self.draw(x.shape[2] * x.shape[3], x.device) for x in keys]
        mine = self.heads(queries, places)
        with torch.no_grad():
            its = self.heads(keys, places)
        pairs = zip(mine, its, strict=True)
        return torch.stack([patch_contrast(q, k, self.temperature) for q, k in pairs]).mean()

    def draw(self, count: int, device: torch.device) -> Tensor:
        """Places in a feature map of `count`, drawn without replacement from the device's generator."""
        return torch.rand(count, device=device).topk(min(self.patches, count)).indices

    def memory(self) -> dict[str, Tensor]:
        return {f"{place:06d}": image for place, image in enumerate(self.replay_b.content())}

    def recall(self, memory: dict[str, Tensor]) -> None:
        self.replay_b.refill(memory[key] for key in sorted(memory))


def apart(features: list[Tensor], counts: list[int]) -> list[list[Tensor]]:
    """The features of images that went through together, for each image."""
    return [list(each) for each in zip(*(x.split(counts) for x in features), strict=True)]


def mirror(images: Tensor, mirrored: Tensor | None) -> Tensor:
    """`images` (N, C, H, W) left to right where `mirrored`, a truth value on their device, says so."""
    return images if mirrored is None else torch.where(mirrored, images.flip(3), images)
