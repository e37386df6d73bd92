"""Norms and activations that are made again for the gradient: torch's own numbers, and nothing kept of them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from twofold.networks.convolutions import Conv2d, ConvTranspose2d

from twofold.networks import convolutions, remade
from twofold.networks.layers import InstanceNorm, ReLU

EPS = 1e-5
LAYERS = {
    "winograd": lambda: Conv2d(6, 4, 3, padding=1, padding_mode="reflect"),
    "strided": lambda: Conv2d(6, 4, 3, stride=2, padding=1),
    "transposed": lambda: ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1),
    "to an image": lambda: Conv2d(6, 3, 7, padding=3, padding_mode="reflect"),
    "from few": lambda: Conv2d(4, 6, 5, padding=2),
}


@pytest.fixture(autouse=True)
def _winograd_always(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(convolutions, "WINOGRAD_FROM", 1)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("count", [1, 3])
def test_a_norm_against_its_formula(layout, count):
    x = torch.randn(count, 5, 6, 7, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    mine, right = remade.normed(x, EPS), remade.as_written(x, EPS)
    torch.testing.assert_close(mine, right)
    assert mine.is_contiguous(memory_format=layout)
    gradient = torch.randn_like(right)
    for given in (gradient, gradient.contiguous(), gradient.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(
            *(torch.autograd.grad(y, x, given, retain_graph=True)[0] for y in (mine, right))
        )


def test_a_norm_has_second_gradients():
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: remade.Normed.apply(x, EPS)[0], x)


@pytest.mark.parametrize("activated", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", LAYERS)
def test_a_convolution_of_what_is_made_again(name, layout, activated):
    layer = LAYERS[name]().double().to(memory_format=layout)
    channels = layer.in_channels
    x = (
        torch.randn(2, channels, 12, 13, dtype=torch.float64)
        .contiguous(memory_format=layout)
        .requires_grad_()
    )
    before = nn.Sequential(InstanceNorm(channels), *([ReLU()] if activated else []))
    mine = layer(before(x))
    plain = F.instance_norm(x, eps=EPS)
    right = type(layer).__mro__[1].forward(layer, plain.relu() if activated else plain)
    torch.testing.assert_close(mine, right)
    gradient = torch.randn_like(right)
    for one, other in zip(
        *(torch.autograd.grad(y, (x, layer.weight), gradient) for y in (mine, right)), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("activated", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_second_gradients_of_what_is_made_again(name, activated):
    layer = LAYERS[name]().double()
    channels = layer.in_channels
    x = torch.randn(2, channels, 6, 7, dtype=torch.float64, requires_grad=True)
    plain = F.instance_norm(x, eps=EPS)
    right = type(layer).__mro__[1].forward(layer, plain.relu() if activated else plain)
    before = nn.Sequential(InstanceNorm(channels), *([ReLU()] if activated else []))
    seconds = []
    for made in (layer(before(x)), right):
        first = torch.autograd.grad(made.sin().sum(), (x, layer.weight), create_graph=True)
        seconds.append(torch.autograd.grad(sum((y**2).sum() for y in first), (x, layer.weight)))
    for one, other in zip(*seconds, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", LAYERS)
def test_the_activations_are_not_kept(name):
    layer = LAYERS[name]()
    x = torch.randn(2, layer.in_channels, 12, 12, requires_grad=True)
    kept = set()

    def pack(tensor):
        kept.add(tensor.untyped_storage().data_ptr())
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        activated = ReLU()(InstanceNorm(layer.in_channels)(x))
        layer(activated)
    assert x.data_ptr() in kept and activated.data_ptr() not in kept


def test_an_activation_without_a_norm_before_it_is_torchs():
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    made = ReLU()(x * 1)
    assert made.tolist() == [0, 2]
    made.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1]


def test_what_is_done_in_between_is_not_forgotten():
    """An operation between activation and convolution: its result is what is convolved."""
    layer = Conv2d(6, 4, 3, padding=1).double()
    x = torch.randn(2, 6, 8, 8, dtype=torch.float64, requires_grad=True)
    mine = layer(ReLU()(InstanceNorm(6)(x)) * 3)
    right = F.conv2d(F.instance_norm(x, eps=EPS).relu() * 3, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(
        *(torch.autograd.grad(y.square().sum(), layer.weight)[0] for y in (mine, right))
    )


def test_in_place_changes_in_between_are_noticed():
    """The attribute would outlive them."""
    layer = Conv2d(6, 4, 3, padding=1).double()
    x = torch.randn(2, 6, 8, 8, dtype=torch.float64, requires_grad=True)
    activated = ReLU()(InstanceNorm(6)(x))
    mine = layer(activated.mul_(3))
    right = F.conv2d(F.instance_norm(x, eps=EPS).relu() * 3, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(
        *(torch.autograd.grad(y.square().sum(), layer.weight)[0] for y in (mine, right))
    )


def test_one_pixel_has_no_variance():
    with pytest.raises(ValueError, match="no variance"):
        InstanceNorm(2)(torch.ones(1, 2, 1, 1))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", LAYERS)
def test_networks_of_bf16_weights(name, layout):
    """Without autocast, as somebody may run them: near float32's, by kernels or without."""
    torch.manual_seed(0)
    layer = LAYERS[name]()
    channels = layer.in_channels
    whole = nn.Sequential(
        Conv2d(3, 8, 1), InstanceNorm(8), ReLU(), Conv2d(8, channels, 1), InstanceNorm(channels), layer
    )
    x = torch.randn(2, 3, 12, 12).contiguous(memory_format=layout)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        network = copy.deepcopy(whole).to(dtype, memory_format=layout)
        made = network(x.to(dtype))
        (gradient,) = torch.autograd.grad(made.float().square().sum(), network[0].weight)
        found.append((made.detach().float(), gradient.float()))
        assert made.dtype == dtype
    (right, right_gradient), (mine, gradient) = found
    assert float((mine - right).norm() / right.norm()) < 0.1
    assert float(F.cosine_similarity(gradient.flatten(), right_gradient.flatten(), 0)) > 0.9
