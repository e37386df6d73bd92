"""CUT and FastCUT: unpaired translation one way, by patch-wise contrast (Park et al. 2020, arXiv 2007.15651)."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from twofold.losses.patchnce import PatchHeads, patch_contrast
from twofold.methods.adversarial import LSGAN, AdversarialObjective
from twofold.methods.base import Batch, Method, Update, apply_to_each, can_batch, masked_l1
from twofold.methods.replay import ReplayBuffer
from twofold.networks.layers import Discriminator
from twofold.networks.resnet import ResnetGenerator


class CUT(Method):
    """A generator, a discriminator, and the objective of the paper's equation 5.

    The patch loss compares the generator's own encoder features of an image and of its translation. The
    discriminator learns first, then the generator with its heads, from the same translation.

    Args:
        gen_ab: translates (N, C, H, W) in [-1, 1] from A to B.
        disc_b: judges images of domain B.
        layers: generator layers whose features are compared, numbered as in `ResnetGenerator.features`.
        adversarial: the adversarial objective.
        gan: weight of the adversarial term.
        nce: weight of the patch loss.
        nce_identity: apply the patch loss to b and its translation too; the mean of both counts then.
        temperature: τ of the patch loss.
        patches: places compared in each feature map, drawn anew for each step.
        head_width: of the networks that the features pass through.
        flip: FastCUT's flip equivariance: in half of the steps the generator translates the mirrored images, and
            the patch loss compares mirrored places.
        mask: weight of |gen_ab(a) − a| inside the batch's masks.
        replay: capacity of the discriminator's replay buffer; the paper has none.
    """

    def __init__(
        self,
        gen_ab: ResnetGenerator,
        disc_b: Discriminator,
        *,
        layers: Sequence[int] = (0, 4, 8, 12, 16),
        adversarial: AdversarialObjective = LSGAN,
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
        self.layers, self.adversarial = tuple(layers), adversarial
        self.gan, self.nce, self.nce_identity, self.mask = gan, nce, nce_identity, mask
        self.temperature, self.patches, self.flip = temperature, patches, flip
        self.replay_b = ReplayBuffer(replay)
        for layer in layers:  # these features come before the norm, so the convolution's bias has a gradient
            conv = gen_ab.encoder()[layer - 1] if layer else None
            if isinstance(conv, nn.Conv2d) and conv.bias is not None:
                conv.bias.requires_grad_()

    def step(self, batch: Batch) -> Iterator[Update]:
        a, b = batch.a, batch.b
        learns = self.generators_learn(batch.number)
        flipped = torch.rand((), device=a.device) < 0.5 if self.flip else None
        input_a, input_b = (flip_if(x, flipped) for x in (a, b))
        inputs = (input_a, input_b) if self.nce_identity else (input_a,)
        with torch.set_grad_enabled(learns):
            translated, keys = self.translate(inputs)
        fake_b = translated[0]
        if self.gan:
            past_b = self.replay_b.exchange(fake_b)
            yield Update("D", {"disc_b": self.adversarial.discriminator_loss(self.disc_b, b, past_b)})
        if not learns:
            return
        losses: dict[str, Tensor] = {}
        if self.gan:
            losses["gan_ab"] = self.gan * self.adversarial.generator_loss(self.disc_b, fake_b)
        if self.mask and batch.mask_a is not None:
            losses["mask_a"] = self.mask * masked_l1(fake_b, input_a, flip_if(batch.mask_a, flipped))
        if keys is None:
            with torch.no_grad():
                keys = self.features((a, b)[: len(translated)])
        weight = self.nce / len(translated)
        for name, queries, own in zip(("nce_a", "nce_b"), self.features(translated), keys, strict=False):
            losses[name] = weight * self.patch_nce([flip_if(x, flipped) for x in queries], own)
        yield Update("G", losses)

    def translate(self, images: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], list[list[Tensor]] | None]:
        """The translations, and the images' features where the same pass may give them, else None.

        It may not where the loss compares features of other inputs: unflipped images, or another dropout.
        """
        if self.flip or self.gen_ab.arguments["dropout"] or not can_batch(self.gen_ab, images):
            return apply_to_each(self.gen_ab, *images), None
        counts = [len(x) for x in images]
        translated, features = self.gen_ab.forward_with_features(torch.cat(images), self.layers)
        return translated.split(counts), split_features([x.detach() for x in features], counts)

    def features(self, images: tuple[Tensor, ...]) -> list[list[Tensor]]:
        """The generator's features of each image, in one pass where no layer mixes images."""
        if not can_batch(self.gen_ab, images):
            return [self.gen_ab.features(x, self.layers) for x in images]
        features = self.gen_ab.features(torch.cat(images), self.layers)
        return split_features(features, [len(x) for x in images])

    def patch_nce(self, queries: list[Tensor], keys: list[Tensor]) -> Tensor:
        """The mean over layers of the patch loss between a translation's features and its image's (equations 4, 5)."""
        places = [self.draw_places(x.shape[2] * x.shape[3], x.device) for x in keys]
        query_vectors = self.heads(queries, places)
        with torch.no_grad():
            key_vectors = self.heads(keys, places)
        pairs = zip(query_vectors, key_vectors, strict=True)
        return torch.stack([patch_contrast(q, k, self.temperature) for q, k in pairs]).mean()

    def draw_places(self, count: int, device: torch.device) -> Tensor:
        """Places among the `count` of a feature map, without replacement, from the device's generator."""
        return torch.rand(count, device=device).topk(min(self.patches, count)).indices


def split_features(features: list[Tensor], counts: list[int]) -> list[list[Tensor]]:
    """The features of images that went through the network together, for each image."""
    return [list(each) for each in zip(*(x.split(counts) for x in features), strict=True)]


def flip_if(images: Tensor, flipped: Tensor | None) -> Tensor:
    """`images` (N, C, H, W), mirrored left to right where `flipped`, a boolean on their device, is true."""
    return images if flipped is None else torch.where(flipped, images.flip(3), images)
