"""LPIPS against its formula written out, on both backbones."""

from itertools import chain

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from twofold.errors import UsageError
from twofold.metrics import lpips


def weights(layers):
    """Random weights under the published names."""
    with torch.random.fork_rng():
        torch.manual_seed(6)
        found = {}
        for place, layer in enumerate(layers):
            if isinstance(layer, torch.nn.Conv2d):
                found[f"features.{place}.weight"] = (
                    torch.randn(layer.weight.shape) * layer.weight[0].numel() ** -0.5
                )
                found[f"features.{place}.bias"] = torch.randn(layer.bias.shape) * 0.1
    return found | {"classifier.1.weight": torch.zeros(2, 2)}


def alexnet_twin(w, x, y):
    """The distance by NumPy's arithmetic on AlexNet's five ReLUs."""
    strides, pads, pools = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1), (True, True, False, False, False)
    total = 0.0
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    x, y = (((z - shift[:, None, None]) / scale[:, None, None]) for z in (x, y))
    x, y = (torch.from_numpy(z)[None].float() for z in (x, y))
    for k, place in enumerate((0, 3, 6, 8, 10)):
        kernel, bias = w[f"features.{place}.weight"], w[f"features.{place}.bias"]
        x, y = (F.conv2d(z, kernel, bias, strides[k], pads[k]).clamp(min=0) for z in (x, y))
        a, b = (z[0].double().numpy() for z in (x, y))
        a, b = (z / (np.sqrt((z**2).sum(0)) + 1e-8) for z in (a, b))
        head = lpips.heads("alex")[k].double().numpy()[0, :, 0, 0]
        total += np.mean(np.einsum("c,chw->hw", head, (a - b) ** 2))
        if pools[k]:
            x, y = F.max_pool2d(x, 3, 2), F.max_pool2d(y, 3, 2)
    return total


def images(seed, count=2):
    return torch.rand(count, 3, 64, 48, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_distance_of_the_formula(tmp_path):
    stored = weights(chain.from_iterable(lpips.alexnet()))
    torch.save(stored, tmp_path / "alexnet.pth")
    network, x, y = lpips.load(tmp_path / "alexnet.pth"), images(0), images(1)
    found = network(x, y)
    for k in range(2):
        assert float(found[k]) == pytest.approx(alexnet_twin(stored, x[k].numpy(), y[k].numpy()), rel=1e-4)
    assert torch.equal(network(x, x), torch.zeros(2))


def test_vgg_is_known_by_its_keys(tmp_path):
    torch.save(weights(chain.from_iterable(lpips.vgg())), tmp_path / "vgg.pth")
    network = lpips.load(tmp_path / "vgg.pth")
    assert [head.shape[1] for head in network.heads] == [64, 128, 256, 512, 512]
    x, y = images(0, 1), images(1, 1)
    assert float(network(x, y)) > 0
    assert torch.allclose(network(x, y), network(y, x))


def test_heads_are_the_published_ones():
    for name, widths in (("alex", [64, 192, 384, 256, 256]), ("vgg", [64, 128, 256, 512, 512])):
        assert [head.shape for head in lpips.heads(name)] == [(1, width, 1, 1) for width in widths]
        assert all((head >= 0).all() for head in lpips.heads(name))


def test_files_that_are_no_backbone(tmp_path):
    with pytest.raises(UsageError, match=r"there is no file .*alexnet-owt.*vgg16"):
        lpips.load(tmp_path / "gone.pth")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match="does not hold the published ImageNet weights"):
        lpips.load(tmp_path / "other.pth")
