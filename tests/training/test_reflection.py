"""Reflected edges with a repeatable gradient against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from twofold.networks.resnet import ResnetGenerator
from twofold.training.float32_layers import keep_last_layer_float32
from twofold.training.reflection import MirroringConv2d, mirrored, reflect_by_parts


@pytest.mark.parametrize("shape", [(2, 3, 5, 9), (1, 2, 4, 4)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_repeatable_reflection_is_torchs(shape, layout):
    images = torch.rand(shape, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    made, expected = mirrored(images, 3), F.pad(images, (3,) * 4, "reflect")
    assert torch.equal(made, expected) and made.is_contiguous(memory_format=layout)
    weights = torch.rand_like(expected)
    (mine,), (its,) = (torch.autograd.grad((x * weights).sum(), images) for x in (made, expected))
    torch.testing.assert_close(mine, its)


@pytest.mark.parametrize("antialias", [False, True])
def test_a_network_computes_the_same_without_torchs_reflection(antialias, monkeypatch):
    torch.manual_seed(0)
    network, images = (
        ResnetGenerator(width=2, blocks=1, antialias=antialias).double(),
        torch.rand(1, 3, 16, 16).double(),
    )
    keys, expected, (edge,) = network.state_dict().keys(), network(images), network.features(images, [0])
    reflect_by_parts(network)
    pad = F.pad
    monkeypatch.setattr(
        F,
        "pad",
        lambda x, edges, mode="constant", value=None: (
            pad(x, edges, mode, value) if mode == "constant" else None
        ),
    )
    torch.testing.assert_close(network(images), expected)
    assert torch.equal(network.features(images, [0])[0], edge) and network.state_dict().keys() == keys


def test_a_last_layer_in_float32_stays_so_and_reflects_repeatably():
    torch.manual_seed(0)
    network, images = ResnetGenerator(width=2, blocks=1), torch.rand(1, 3, 16, 16)
    keep_last_layer_float32(network)
    with torch.autocast("cpu", torch.bfloat16):
        expected = network(images)
        reflect_by_parts(network)
        made = network(images)
    assert isinstance(network.leave[0], MirroringConv2d) and made.dtype == torch.float32
    torch.testing.assert_close(made, expected)
    assert network.double()(images.double()).dtype == torch.float64
