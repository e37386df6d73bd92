"""Training on label maps: networks with a channel for each class, and what one step of each method learns from them."""

import numpy as np
import pytest
import torch

from twofold import config as configs
from twofold.formats.contract import Contract, Labels
from twofold.formats.values import from_network, to_network
from twofold.methods.base import Batch
from twofold.training.build import build
from twofold.training.trainer import Trainer

IDS = Contract("uint16", 1, (3.0,), (900.0,), "labels", Labels(((3,), (40,), (900,)), onehot=True))
COLOURS = Contract(
    found="labels", labels=Labels(((0, 0, 0), (0, 0, 255), (0, 255, 0), (9, 9, 9), (255, 0, 0)), onehot=True)
)
SMALL = {
    "a": "A",
    "b": "B",
    "data": {
        "size": 32,
        "channels_a": 1,
        "channels_b": 3,
        "labels_a": True,
        "labels_b": True,
        "onehot": True,
    },
    "generator": {"network": "resnet-6", "width": 4},
    "discriminator": {"width": 4, "layers": 1},
}


def maps(contract, seed, size=32):
    """Two label maps (2, C, size, size) as stored, in squares of 8 pixels."""
    assert contract.labels
    classes = np.random.default_rng(seed).integers(0, len(contract.labels.values), (2, size // 8, size // 8))
    values = np.array(contract.labels.values, contract.dtype)[classes.repeat(8, 1).repeat(8, 2)]
    return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))


@pytest.mark.parametrize("method", ["cyclegan", "pix2pix"])
def test_a_step_with_onehot_domains(method):
    config = configs.compose({"method": method}, SMALL)
    built = build(config, (IDS, COLOURS))
    assert built.gen_ab.arguments["in_channels"] == 3 and built.gen_ab.arguments["out_channels"] == 5
    trainer = Trainer(built)
    a, b = maps(IDS, 0), maps(COLOURS, 1)
    batch = Batch(to_network(a, IDS), to_network(b, COLOURS))
    assert batch.a.shape == (2, 3, 32, 32) and batch.b.shape == (2, 5, 32, 32)
    trainer.step(batch, 2e-4)
    assert all(np.isfinite(value) for value in trainer.sums.report().values())
    made = from_network(built.gen_ab(batch.a), COLOURS)
    assert made.shape == b.shape and made.dtype == torch.uint8
    found = {tuple(row) for row in made.movedim(1, -1).reshape(-1, 3).tolist()}
    assert found <= set(COLOURS.labels.values)


def test_pix2pix_learns_classes_one_by_one():
    """One image by heart: from each id its colour, with nearly every pixel right after some steps."""
    changes = {"pix2pix": {"gan": 0.0}, "generator": {"network": "resnet-6", "width": 8}}
    config = configs.compose({"method": "pix2pix"}, SMALL, changes)
    built = build(config, (IDS, COLOURS))
    trainer = Trainer(built)
    a = maps(IDS, 0)
    colour_of = dict(zip(IDS.labels.ids, COLOURS.labels.values[1:4], strict=True))
    answers = np.array(
        [[colour_of[v] for v in row] for row in a.flatten(1).to(torch.int64).tolist()], np.uint8
    )
    b = torch.from_numpy(answers.reshape(2, 32, 32, 3)).permute(0, 3, 1, 2)
    batch = Batch(to_network(a, IDS), to_network(b, COLOURS))
    for _ in range(30):
        trainer.step(batch, 2e-3)
    right = (from_network(built.gen_ab(batch.a), COLOURS) == b).all(1).float().mean()
    assert right > 0.9
