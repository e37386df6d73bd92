"""The compiled kernels against torch's operations, and what happens where nothing can be compiled."""

import copy
import subprocess

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from twofold.cpu import accelerate as acceleration
from twofold.cpu import native
from twofold.cpu.accelerate import accelerate
from twofold.cpu.bf16 import NativeNorm
from twofold.cpu.winograd_matrices import TILES, transforms
from twofold.cpu.winograd_tiles import Grid, from_tiles, to_tiles
from twofold.networks.layers import InstanceNorm, norm_in_layout

needs_compiler = pytest.mark.skipif(not native.available(), reason="no C compiler, or not Linux")

EPSILON = torch.finfo(torch.float32).eps

GRIDS = {
    "edge reflected": lambda tile, high, wide: Grid(tile, 1, True, -(-high // tile), -(-wide // tile)),
    "edge of zeros": lambda tile, high, wide: Grid(tile, 1, False, -(-high // tile), -(-wide // tile)),
}


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "kernels", native.kernels.__wrapped__)
    return tmp_path / "twofold" / "kernels"


@pytest.fixture
def called(monkeypatch):
    """The names of the kernels that are called."""
    names = []
    call = native.Kernels.call
    monkeypatch.setattr(native.Kernels, "call", lambda *args: names.append(args[1]) or call(*args))
    return names


def both(function):
    """What it gives with the kernels, and with torch's operations."""
    return function(native.kernels()), function(None)


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
        close(*both(lambda k, x=images, m=matrix, g=grid: to_tiles(x, m, g, "test b", "test a", k).clone()))
    values = torch.randn((tile + taps - 1) ** 2, 2 * sees.down * sees.right, channels)
    for images, matrix, grid in ((given, how.input_back, sees), (gradient, how.output, gives)):

        def filled(kernels, x=images, m=matrix, g=grid):
            made = torch.full_like(x, torch.nan)
            from_tiles(values.clone(), m, g, made, "test b", "test a", kernels)
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
    monkeypatch.setattr(acceleration, "NATIVE_WINOGRAD_FROM", 1)
    torch.manual_seed(0)
    layer = accelerate(nn.Conv2d(16, 24, kernel, padding=1).to(memory_format=torch.channels_last))
    for mine, right in gradients_of(layer, torch.randn(3, 16, 13, 18)):
        torch.testing.assert_close(mine.double(), right, rtol=0, atol=3e-5 * float(right.abs().max()))
    assert len(called) == 3 + 5, "filters, images, results; filters again, results, images, and both back"


@needs_compiler
def test_threads_change_no_bit():
    x = torch.randn(2, 40, 24, 32)
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        how = transforms(3, 6, torch.float32)
        grid = Grid(6, 1, False, 7, 4)
        tiled = to_tiles(x, how.input, grid, "test b", "test a", native.kernels()).clone()
        back = torch.empty_like(x)
        from_tiles(tiled.clone(), how.input_back, grid, back, "test b", "test a", native.kernels())
        found.append((tiled, back))
    torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("kernels", "channels", "dtype", "used"),
    [
        (True, 40, torch.float32, True),
        (False, 40, torch.float32, False),
        (True, 44, torch.float32, False),
        (True, 40, torch.float64, False),
    ],
)
@needs_compiler
def test_only_where_they_fit_and_are_allowed(kernels, channels, dtype, used, called):
    layer = accelerate(nn.Conv2d(channels, 48, 3, padding=1).to(dtype), kernels)
    layer(torch.randn(1, channels, 9, 9, dtype=dtype))
    assert bool(called) == used


@needs_compiler
def test_what_was_compiled_is_kept(cache, monkeypatch):
    assert native.kernels() is not None
    assert sorted(path.suffix for path in cache.iterdir()) == [".so"]
    monkeypatch.setattr(native, "build", None)
    assert native.kernels() is not None


@needs_compiler
def test_another_version_of_the_compiler_compiles_anew(cache, monkeypatch):
    run = subprocess.run

    def newer(command, **given):
        ended = run(command, **given)
        if command[-1] == "--version":
            ended.stdout += b"of another day"
        return ended

    assert native.kernels() is not None
    monkeypatch.setattr(subprocess, "run", newer)
    assert native.kernels() is not None
    assert len(list(cache.glob("*.so"))) == 2


def truncated(library):
    library.write_bytes(library.read_bytes()[:5000])


def altered(library):
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    library.write_bytes(content)


DAMAGES = {
    "truncated": truncated,
    "altered": altered,
    "no library": lambda library: library.write_bytes(b"not a library"),
    "others may write to it": lambda library: library.chmod(0o666),
    "a link": lambda library: (
        library.rename(library.with_suffix(".old")) and library.symlink_to(library.with_suffix(".old"))
    ),
}


@needs_compiler
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_library_is_not_loaded_but_built_anew(cache, monkeypatch, damage):
    """In place of a compiled library, of which a copy would already be loaded here."""
    folder = native.cache_folder()
    folder.mkdir(parents=True, mode=0o700)
    command = ["gcc", *native.FLAGS]
    code = native.kernel_source.source()
    library = native.build(folder, "kernels-x", command, code)
    whole = library.read_bytes()
    assert native.is_whole(library)
    DAMAGES[damage](library)
    assert not native.is_whole(library)
    assert native.build(folder, "kernels-x", command, code) == library
    assert native.is_whole(library) and library.read_bytes() == whole


@needs_compiler
@pytest.mark.parametrize("damage", ["truncated", "no library"])
def test_a_process_starts_with_a_damaged_library_in_the_cache(cache, damage, tmp_path, monkeypatch):
    assert native.kernels() is not None
    other = tmp_path / "other" / "twofold" / "kernels"
    other.mkdir(parents=True, mode=0o700)
    for path in cache.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
        (other / path.name).chmod(0o600)
    (library,) = other.glob("*.so")
    DAMAGES[damage](library)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert native.kernels() is not None
    assert native.is_whole(library)


@needs_compiler
def test_a_library_without_the_functions_is_not_used(cache, monkeypatch):
    """As a foreign one whose name has its hash."""
    build, built = native.build, []

    def empty_in_the_cache(folder, name, command, code):
        built.append(folder)
        return build(folder, name, command, "" if folder == cache else code)

    monkeypatch.setattr(native, "build", empty_in_the_cache)
    assert native.kernels() is not None
    assert [folder == cache for folder in built] == [True, False]


@needs_compiler
@pytest.mark.parametrize("place", ["a file", "others may write to it"])
def test_a_cache_that_cannot_be_used(cache, place):
    """The kernels are compiled in a temporary folder then, which is gone afterwards."""
    folder = native.cache_folder()
    if place == "a file":
        folder.parent.mkdir(parents=True)
        folder.touch()
    else:
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    assert native.kernels() is not None
    assert folder.is_file() or not list(folder.iterdir())


@pytest.mark.parametrize("compilers", [(), ("false",)])
def test_without_a_compiler_that_works(cache, monkeypatch, compilers):
    monkeypatch.setattr(native, "COMPILERS", compilers)
    assert native.kernels() is None and not native.available()
    layer = accelerate(nn.Conv2d(64, 128, 3, padding=1))
    x = torch.randn(1, 64, 12, 12)
    torch.testing.assert_close(layer(x), nn.Conv2d.forward(layer, x), rtol=1e-3, atol=1e-4)


@needs_compiler
def test_with_a_compiler_that_does_not_know_the_processor(cache, monkeypatch):
    """It compiles what it can: everything but the products of tiles."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    monkeypatch.setattr(native, "AMX", ("-mof-the-year-2040",))
    kernels = native.kernels()
    assert kernels is not None and not kernels.amx
    assert len(list(cache.glob("*.so"))) == 1


@needs_compiler
@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (3, 24, 13, 30), (1, 264, 4, 3), (1, 48, 40, 40)])
def test_a_norm_of_bf16_images(shape, called):
    """Against the formula in float64, values and gradients; off centre, where sums round most."""
    torch.manual_seed(0)
    x = (5 + 3 * torch.randn(shape)).bfloat16().contiguous(memory_format=torch.channels_last)
    gradient = torch.randn(shape).bfloat16()
    exact = x.double().requires_grad_()
    mine, right = NativeNorm.apply(x.requires_grad_(), 1e-5, native.kernels()), F.instance_norm(exact)
    found = [mine.detach(), *torch.autograd.grad(mine, x, gradient)]
    wanted = [right.detach(), *torch.autograd.grad(right, exact, gradient.double())]
    assert called == ["normed", "normed_back"]
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.bfloat16 and one.is_contiguous(memory_format=torch.channels_last)
        half_a_step = float(other.abs().max()) * torch.finfo(torch.bfloat16).eps / 2
        torch.testing.assert_close(one.double(), other, rtol=0, atol=half_a_step + 1e-5)


@needs_compiler
def test_second_gradients_of_a_norm():
    x = torch.randn(2, 8, 3, 3).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    seconds = []
    for normed in (NativeNorm.apply(x, 1e-5, native.kernels()), norm_in_layout(x, None, None, 1e-5)):
        (first,) = torch.autograd.grad(normed.sin().sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad((first**2).sum(), x)[0])
    torch.testing.assert_close(*seconds, rtol=0.05, atol=0.05 * float(seconds[1].abs().max()))


@needs_compiler
def test_bf16_is_rounded_as_torch_does():
    """To the nearest, ties to even; and NaN stays NaN."""
    torch.manual_seed(0)
    kernels = native.kernels()
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
@pytest.mark.parametrize("wanted", [True, False])
def test_layers_in_bf16(wanted, called):
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), InstanceNorm(8), nn.ReLU(inplace=True)
    )
    accelerate(layers.requires_grad_(wanted).to(memory_format=torch.channels_last))
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
    assert [name for name in called if "normed" in name] == ["normed", *(["normed_back"] if wanted else [])]


def test_a_norm_in_another_layout_is_torchs(monkeypatch):
    monkeypatch.setattr(native.Kernels, "call", None)
    x = torch.randn(2, 8, 5, 7).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        made = accelerate(InstanceNorm(8))(x)
    torch.testing.assert_close(made, F.instance_norm(x), rtol=0.02, atol=0.02)
    assert torch.autograd.grad(made.float().sum(), x)[0].shape == x.shape
