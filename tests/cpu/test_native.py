"""The compiled kernels against torch's operations, and what happens where nothing can be compiled."""

import copy
import subprocess

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from twofold.networks.convolutions import Conv2d, ConvTranspose2d
from twofold.networks.tiles import Grid, from_tiles, to_tiles
from twofold.networks.toom_cook import TILES, transforms

from twofold.networks import convolutions, native, patches, remade, sources
from twofold.networks.layers import InstanceNorm, ReLU

needs_compiler = pytest.mark.skipif(native.compiled() is None, reason="no C compiler, or not Linux")

EPSILON = torch.finfo(torch.float32).eps

GRIDS = {
    "edge reflected": lambda tile, high, wide: Grid(tile, 1, True, -(-high // tile), -(-wide // tile)),
    "edge of zeros": lambda tile, high, wide: Grid(tile, 1, False, -(-high // tile), -(-wide // tile)),
}


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "compiled", native.compiled.__wrapped__)
    return tmp_path / "twofold"


@pytest.fixture
def called(monkeypatch):
    """The names of the kernels that are called."""
    names = []
    call = native.Kernels.call
    monkeypatch.setattr(native.Kernels, "call", lambda *args: names.append(args[1]) or call(*args))
    return names


def both(function):
    """What it gives with the kernels, and with torch's operations."""
    with native.allowed(True):
        mine = function()
    with native.allowed(False):
        return mine, function()


def close(mine, right):
    """But for roundings of sums of a few dozen."""
    torch.testing.assert_close(mine, right, rtol=0, atol=20 * float(right.abs().max()) * EPSILON)


@needs_compiler
@pytest.mark.parametrize("edge", GRIDS)
@pytest.mark.parametrize("channels", [8, 24, 264])
@pytest.mark.parametrize("side", [(12, 20), (7, 5), (2, 3)])
@pytest.mark.parametrize(("taps", "tile"), [(taps, tile) for taps, some in TILES.items() for tile in some])
def test_against_torch(taps, tile, side, channels, edge):
    """The four steps of a convolution, and of its gradient, that are not products."""
    torch.manual_seed(0)
    how = transforms(taps, tile, torch.float32)
    height, width = (x + 3 - taps for x in side)
    if not width:
        pytest.skip("smaller than the filter")
    given, gradient = torch.randn(2, *side, channels), torch.randn(2, height, width, channels)
    sees = GRIDS[edge](tile, height, width)
    gives = sees._replace(edge=0, reflect=False)
    for images, matrix, grid in ((given, how.input, sees), (gradient, how.output_back, gives)):
        close(*both(lambda x=images, m=matrix, g=grid: to_tiles(x, m, g, "test b", "test a").clone()))
    values = torch.randn((tile + taps - 1) ** 2, 2 * sees.down * sees.right, channels)
    for images, matrix, grid in ((given, how.input_back, sees), (gradient, how.output, gives)):

        def filled(x=images, m=matrix, g=grid):
            made = torch.full_like(x, torch.nan)
            from_tiles(values.clone(), m, g, made, "test b", "test a")
            return made

        close(*both(filled))


def gradients_of(layer, x):
    """What the layer makes of it, and the gradients of all three for some gradient; and the same in float64."""
    exact = copy.deepcopy(layer).double()
    found = []
    for conv, given in ((layer, x.requires_grad_()), (exact, x.detach().double().requires_grad_())):
        made = conv(given)
        gradient = torch.ones_like(made) + torch.arange(made.shape[3])
        found.append([made.detach(), *torch.autograd.grad(made, (given, conv.weight, conv.bias), gradient)])
    return zip(*found, strict=True)


@needs_compiler
@pytest.mark.parametrize("kernel", [3, 4])
def test_a_convolution_and_its_gradients(kernel, monkeypatch, called):
    monkeypatch.setattr(convolutions, "NATIVE_FROM", 1)
    torch.manual_seed(0)
    layer = Conv2d(16, 24, kernel, padding=1).to(memory_format=torch.channels_last)
    for mine, right in gradients_of(layer, torch.randn(3, 16, 13, 18)):
        torch.testing.assert_close(mine.double(), right, rtol=0, atol=3e-5 * float(right.abs().max()))
    assert len(called) == 3 + 5, "filters, images, results; filters again, results, images, and both back"


@needs_compiler
@pytest.mark.parametrize("size", [(2, 8, 12), (1, 9, 7), (3, 2, 5)], ids=str)
@pytest.mark.parametrize(
    "layer",
    [Conv2d(16, 24, 4, 2, 1), ConvTranspose2d(16, 24, 4, 2, 1), ConvTranspose2d(16, 24, 4, 2, 1, 1)],
    ids=str,
)
def test_a_strided_convolution_over_its_phases(layer, size, monkeypatch, called):
    monkeypatch.setattr(patches, "PHASED_FROM", 1)
    torch.manual_seed(0)
    count, *sides = size
    layer = layer.to(memory_format=torch.channels_last)
    for mine, right in gradients_of(layer, torch.randn(count, 16, *sides)):
        torch.testing.assert_close(mine.double(), right, rtol=0, atol=3e-5 * float(right.abs().max()))
    phases = [name for name in called if name.endswith("_2_4")]
    assert len(phases) == len(called) == (8 if isinstance(layer, Conv2d) else 3 + 3 + 3)
    called.clear()
    layer.weight.data = layer.weight.data.contiguous()
    layer(torch.randn(count, 16, *sides))
    assert not [name for name in called if name.endswith("_2_4")], "filters must be channels-last"


@needs_compiler
def test_threads_change_no_bit():
    x = torch.randn(2, 40, 24, 32)
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        how = transforms(3, 6, torch.float32)
        grid = Grid(6, 1, False, 7, 4)
        tiled = to_tiles(x, how.input, grid, "test b", "test a").clone()
        back = torch.empty_like(x)
        from_tiles(tiled.clone(), how.input_back, grid, back, "test b", "test a")
        found.append((tiled, back))
    torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_only_where_they_fit_and_are_allowed():
    there = native.compiled()
    assert native.kernels(torch.float32, 8, 48) is there
    assert native.kernels(torch.float64, 8) is None and native.kernels(torch.float32, 8, 12) is None
    assert native.kernels(torch.bfloat16, 8) is None
    assert native.kernels(torch.bfloat16, 8, tiled=False) is there
    with native.allowed(False):
        assert native.kernels(torch.float32, 8) is None
        with native.allowed(True):
            assert native.kernels(torch.float32, 8) is there
        assert native.kernels(torch.float32, 8) is None
    assert native.kernels(torch.float32, 8) is there


@needs_compiler
def test_what_was_compiled_is_kept(cache, monkeypatch):
    assert native.compiled() is not None
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(subprocess, "run", None)
    assert native.compiled() is not None


@needs_compiler
def test_a_cache_that_is_damaged_or_cannot_be_written(cache, monkeypatch, tmp_path):
    native.compiled()
    (library,) = cache.iterdir()
    (tmp_path / "damaged/twofold").mkdir(parents=True)  # elsewhere, for what is loaded is not loaded again
    (tmp_path / "a file").mkdir()
    (tmp_path / "damaged/twofold" / library.name).write_bytes(b"not a library")
    (tmp_path / "a file/twofold").touch()
    for place in ("damaged", "a file"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
        assert native.compiled() is not None
        assert not list(tmp_path.glob("**/*.c"))


@pytest.mark.parametrize("compilers", [(), ("false",)])
def test_without_a_compiler_that_works(cache, monkeypatch, compilers):
    monkeypatch.setattr(native, "COMPILERS", compilers)
    assert native.compiled() is None
    layer = Conv2d(64, 128, 3, padding=1)
    x = torch.randn(1, 64, 12, 12)
    torch.testing.assert_close(layer(x), nn.Conv2d.forward(layer, x), rtol=1e-3, atol=1e-4)


@needs_compiler
def test_with_a_compiler_that_does_not_know_the_processor(cache, monkeypatch):
    """It compiles what it can: all but the products of tiles."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    monkeypatch.setattr(native, "AMX", ("-mof-the-year-2040",))
    kernels = native.compiled()
    assert kernels is not None and not kernels.amx
    assert len(list(cache.iterdir())) == 1


@needs_compiler
@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize("dtype", sources.TYPES)
@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (3, 24, 13, 30), (1, 264, 4, 3), (1, 48, 40, 40)])
def test_a_norm_and_its_activation(shape, dtype, activated, called):
    """Against the formula in float64, values and gradients; off centre, where sums round most."""
    torch.manual_seed(0)
    x = (5 + 3 * torch.randn(shape)).to(dtype).contiguous(memory_format=torch.channels_last)
    gradient = torch.randn(shape).to(dtype)
    found = []
    for given in (x.requires_grad_(), x.detach().double().requires_grad_()):
        if given is x:
            made = remade.normed(given, 1e-5)
            made = remade.rectified(made) if activated else made
        else:
            made = remade.as_written(given, 1e-5)
            made = made.relu() if activated else made
        found.append([made.detach(), *torch.autograd.grad(made, given, gradient.to(given.dtype))])
    name = sources.TYPES[dtype]
    rectifies = activated and dtype == torch.bfloat16  # torch's is as fast in float32
    back = "rectified_back" if activated else "normed_back"
    assert called == [f"normed_{name}", *(["rectified_bf16"] if rectifies else []), f"{back}_{name}"]
    for mine, right in zip(*found, strict=True):
        half_a_step = float(right.abs().max()) * torch.finfo(torch.bfloat16).eps / 2
        atol = 1e-5 if dtype == torch.float32 else half_a_step + 1e-5
        assert mine.dtype == dtype
        torch.testing.assert_close(mine.double(), right, rtol=0, atol=atol)
        assert mine.is_contiguous(memory_format=torch.channels_last)


@needs_compiler
def test_bf16_is_rounded_as_torch_does():
    """To the nearest, ties to even; and no number stays none."""
    torch.manual_seed(0)
    kernels = native.kernels(torch.bfloat16, 8, tiled=False)
    values = torch.randint(-256, 256, (1, 64, 64, 8)).bfloat16()
    values = torch.cat((values, -values), 1)  # no mean: what is written is the gradient times the scale
    zeros, made = torch.zeros_like(values), torch.empty_like(values)
    mean, scale = torch.zeros(1, 8), torch.full((1, 8), 1 + 2**-8)  # 1 becomes a tie
    kernels.normed_back(values, zeros, mean, scale, made)
    assert torch.equal(made, (values.float() * (1 + 2**-8)).bfloat16())
    values[0, 5, 7, 3] = torch.nan
    kernels.normed_back(values, zeros, mean, scale, made)
    assert made[..., 3].isnan().all() and made[..., :3].isfinite().all()


@needs_compiler
def test_a_rectified_bf16_image_is_torchs(called):
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.bfloat16)
    images = every.reshape(2, 8, 64, 64).contiguous(memory_format=torch.channels_last)
    right = images.relu()
    version = images._version
    assert remade.rectify(images) is images and images._version > version
    assert called == ["rectified_bf16"]
    torch.testing.assert_close(images, right, rtol=0, atol=0, equal_nan=True)


@needs_compiler
@pytest.mark.parametrize("wanted", [True, False])
def test_in_bf16_layers_convolve_by_the_library_and_norm_by_kernels(wanted, called):
    torch.manual_seed(0)
    layers = nn.Sequential(Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), InstanceNorm(8), ReLU())
    layers.requires_grad_(wanted).to(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 12, 12).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        made = layers(x)
    assert made.dtype == torch.bfloat16
    right = F.instance_norm(layers[0](x)).relu()
    torch.testing.assert_close(made.float(), right, rtol=0, atol=0.05)
    if wanted:
        (mine,) = torch.autograd.grad(made.float().square().sum(), layers[0].weight)
        (exact,) = torch.autograd.grad(right.square().sum(), layers[0].weight)
        assert float((mine - exact).norm() / exact.norm()) < 0.05
    natively = [name for name in called if name.endswith("_bf16")]
    assert natively == ["normed_bf16", "rectified_bf16", *(["rectified_back_bf16"] if wanted else [])]


def test_a_norm_in_another_layout_is_torchs(monkeypatch):
    monkeypatch.setattr(native.Kernels, "call", None)
    x = torch.randn(2, 8, 5, 7, requires_grad=True)
    made = remade.rectified(remade.normed(x, 1e-5))
    torch.testing.assert_close(made, F.instance_norm(x).relu())
    assert torch.autograd.grad(made.sum(), x)[0].shape == x.shape
