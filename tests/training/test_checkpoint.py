"""Blocks computed twice: the same numbers to the bit, less kept."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from twofold.config import compose, resume
from twofold.methods.base import Batch
from twofold.networks.resnet import ResnetGenerator
from twofold.training.build import build
from twofold.training.checkpointing import checkpoint_blocks
from twofold.training.trainer import Trainer

BASE = {
    **{"a": "A", "b": "B", "data": {"size": 32, "channels_a": 3, "channels_b": 3}},
    **{"generator": {"width": 16}, "discriminator": {"width": 4, "layers": 1}},
}


def trained(checkpoint, precision="float32", **changes):
    """Weights and losses after two steps."""
    config = compose(BASE, changes, {"machine": {"checkpoint": checkpoint}})
    trainer = Trainer(build(config), precision=precision, channels_last=True, fused=True)
    draws = torch.Generator().manual_seed(0)
    for _ in range(2):
        trainer.step(Batch(*(torch.rand(1, 3, 32, 32, generator=draws) * 2 - 1 for _ in "ab")), 2e-4)
    return trainer.method.state_dict(), trainer.sums.report()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bf16"},
        {"generator": {"width": 24, "dropout": True}},  # wide enough for Winograd, and random
        {"method": "cut"},
        {"generator": {"norm": "batch"}},  # where it is left out
    ],
)
def test_losses_and_weights_are_the_same_bits(changes):
    plain, losses = trained(False, **changes)
    again, others = trained(True, **changes)
    assert losses == others
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_less_is_kept_for_the_gradient():
    kept = {}
    image = torch.zeros(1, 3, 64, 64)
    for recompute in (False, True):
        network, sizes = ResnetGenerator(width=8), {}
        keys = list(network.state_dict())
        if recompute:
            checkpoint_blocks(network)
        assert list(network.state_dict()) == keys

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            network(image)
        kept[recompute] = sum(sizes.values()) - sum(p.numel() * 4 for p in network.parameters())
    assert kept[True] < 0.7 * kept[False]


def test_a_resumed_run_may_turn_it_on():
    stored = compose(BASE)
    assert stored.machine.checkpoint is None
    assert resume(stored, {"machine": {"checkpoint": True}}).machine.checkpoint
