"""Masks held to a loop over pixels, and that the term keeps what it is told to keep."""

import pytest
import torch

from twofold.methods.base import Batch, masked_l1
from twofold.methods.cut import CUT
from twofold.methods.cyclegan import CycleGAN
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.layers import initialise
from twofold.networks.resnet import ResnetGenerator
from twofold.training.trainer import Trainer


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 3, 16, 16, generator=draw) * 2 - 1 for _ in "ab")
    masks = [(torch.rand(2, 1, 16, 16, generator=draw) > 0.6).float() for _ in "ab"]
    return Batch(a, b, 0, *masks)


def network(kind, **arguments):
    made = (
        ResnetGenerator(3, 3, width=4, blocks=1)
        if kind == "generator"
        else PatchDiscriminator(3, **arguments)
    )
    initialise(made, "normal", 0.2)
    return made


def cyclegan(**switches):
    torch.manual_seed(0)
    discs = [network("discriminator", width=4, layers=1) for _ in range(2)]
    return CycleGAN(network("generator"), network("generator"), *discs, replay=0, **switches)


def cut(**switches):
    torch.manual_seed(0)
    return CUT(
        network("generator"),
        network("discriminator", width=4, layers=1),
        layers=(0, 4),
        patches=8,
        head_width=4,
        **switches,
    )


def by_hand(translated, source, mask):
    total = 0.0
    count, channels, height, width = source.shape
    for n in range(count):
        for i in range(height):
            for j in range(width):
                if mask[n, 0, i, j]:
                    total += sum(
                        abs(translated[n, c, i, j] - source[n, c, i, j]).item() for c in range(channels)
                    )
    return total / source.numel()


def losses_of(method, batch):
    return {name: loss for update in method.step(batch) for name, loss in update.losses.items()}


def test_change_is_the_mean_of_what_changed_inside(batch):
    assert masked_l1(batch.b, batch.a, batch.mask_a).item() == pytest.approx(
        by_hand(batch.b, batch.a, batch.mask_a)
    )


def test_cyclegan_weighs_both_ways(batch):
    method = cyclegan(mask=3.0)
    losses = losses_of(method, batch)
    for way, there, source, mask in (
        ("a", method.gen_ab, batch.a, batch.mask_a),
        ("b", method.gen_ba, batch.b, batch.mask_b),
    ):
        assert losses[f"mask_{way}"].item() == pytest.approx(
            3 * by_hand(there(source), source, mask), rel=1e-4
        )
    assert "mask_b" not in losses_of(method, batch._replace(mask_b=None))
    assert not {"mask_a", "mask_b"} & losses_of(cyclegan(), batch).keys()


@pytest.mark.parametrize("seed", range(4))
def test_cut_mirrors_the_mask_with_the_image(batch, seed):
    method = cut(mask=3.0, flip=True, nce_identity=False)
    torch.manual_seed(seed)
    mirrored = torch.rand(()).item() < 0.5
    torch.manual_seed(seed)
    loss = losses_of(method, batch)["mask_a"].item()
    a, mask = (x.flip(3) if mirrored else x for x in (batch.a, batch.mask_a))
    assert loss == pytest.approx(3 * by_hand(method.gen_ab(a), a, mask), rel=1e-4)


def test_what_is_masked_changes_less(batch):
    changes = {}
    for weight in (0.0, 100.0):
        method = cyclegan(mask=weight, cycle_a=0, cycle_b=0, identity=0)
        trainer = Trainer(method, lr=2e-3)
        for _ in range(25):
            trainer.step(batch, 2e-3)
        changes[weight] = masked_l1(method.gen_ab(batch.a), batch.a, batch.mask_a).item()
    assert changes[100.0] < 0.7 * changes[0.0]
