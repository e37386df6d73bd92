"""A step asks the device nothing, so it can be queued ahead on a GPU or captured as a graph.

Run on the meta device, whose tensors have no values: whatever asks for one is an error.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from twofold.config import compose
from twofold.methods.base import Batch
from twofold.training.build import build
from twofold.training.stats import LossSums
from twofold.training.trainer import Trainer

ASKING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::is_nonzero",
    "aten::equal",
    "aten::masked_select",
}

SETTINGS = {
    "cyclegan": {"cyclegan": {"replay": 1}},
    "adversarial cycles": {"cyclegan": {"cycle": "adversarial"}},
    "wgan": {"adversarial": {"loss": "wgan", "critic_steps": 2}, "discriminator": {"norm": "none"}},
    "hinge with R1, augmented": {
        "adversarial": {"loss": "hinge", "r1": 1.0, "augment": ["colour", "translation", "cutout"]}
    },
    "spectral": {"discriminator": {"spectral": True, "scales": 2}},
    "pix2pix": {"method": "pix2pix", "data": {"paired": True, "size": 256}},
    "cut": {"method": "cut"},
    "fastcut": {"method": "fastcut"},
}


class NoAsking(TorchDispatchMode):
    """Refuses every operation by which a value would come from the device to the program."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        on_device = any(isinstance(x, torch.Tensor) and x.is_meta for x in args)
        copied = func.name().startswith("aten::_to_copy") and str((kwargs or {}).get("device")) == "cpu"
        if on_device and (copied or func.name().split(".")[0] in ASKING):
            raise AssertionError(f"{func.name()} asks the device")
        return func(*args, **(kwargs or {}))


BASE = {
    **{"a": "A", "b": "B", "data": {"size": 32, "channels_a": 3, "channels_b": 3}},
    **{"generator": {"width": 4}, "discriminator": {"width": 4, "layers": 1}, "training": {"ema": 4}},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_no_method_asks_the_device(name):
    config = compose(BASE, SETTINGS[name])
    with torch.device("meta"):
        trainer = Trainer(build(config), device="meta", ema=config.training.ema, channels_last=True)
    size = config.data.size
    a, b = (torch.empty(2, 3, size, size, device="meta") for _ in "ab")
    with NoAsking():
        for _ in range(3):
            trainer.step(Batch(a, b), 2e-4)
    assert trainer.images == 6 and trainer.sums._names


@pytest.mark.parametrize(
    "ask", [lambda x: x.item(), lambda x: bool(x > 0), lambda x: x.cpu(), torch.nonzero, lambda x: x[x > 0]]
)
def test_asking_is_noticed(ask):
    sums = LossSums(torch.device("meta"))
    sums.add({"x": torch.empty((), device="meta")}, 0)
    with NoAsking(), pytest.raises(AssertionError, match="asks the device"):
        ask(sums._sums[0])
