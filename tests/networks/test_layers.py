import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from twofold.networks import layers
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.layers import BatchNorm, Generator, initialise
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.resnet_skips import SkipResnetGenerator
from twofold.networks.unet import UnetGenerator


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def networks(norm):
    return [
        (ResnetGenerator(2, 3, width=4, blocks=2, norm=norm), torch.randn(3, 2, 16, 16)),
        (UnetGenerator(2, 3, width=2, depth=5, norm=norm), torch.randn(3, 2, 32, 32)),
        (UnetGenerator(2, 3, width=2, depth=5, norm=norm, skips=False), torch.randn(3, 2, 32, 32)),
        (PatchDiscriminator(2, width=2, norm=norm), torch.randn(3, 2, 32, 32)),
    ]


def test_batch_norm_in_eval_mode_uses_each_images_own_statistics():
    norm = BatchNorm(5).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean = torch.full((5,), 7.0).double()
    x = torch.randn(4, 5, 6, 7).double()
    mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
    scale, shift = norm.weight[:, None, None], norm.bias[:, None, None]
    expected = (x - mean) / (var + 1e-5).sqrt() * scale + shift
    torch.testing.assert_close(norm.eval()(x), expected)


def test_what_is_added_to_the_image_is_a_number_outside_its_range_too():
    network = SkipResnetGenerator(3, 3, width=2, blocks=1)
    for bias in (network.leave[0].bias, network.leave[0].weight):
        nn.init.zeros_(bias)  # no change at all: what comes out is what goes in, but for NEARLY
    x = torch.linspace(-1.5, 1.5, 3 * 64).view(1, 3, 8, 8).requires_grad_()
    y = network(x)
    torch.testing.assert_close(y, 0.99 * x.detach().clamp(-1, 1))
    y.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    ends = torch.tensor([-1.0, 1.0]).expand(1, 3, 8, 2).repeat(1, 1, 1, 4).requires_grad_()
    network(ends).sum().backward()
    torch.testing.assert_close(ends.grad, torch.full_like(ends, 0.99))  # white and black still learn


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(
    "norm", [layers.InstanceNorm(5), layers.AffineInstanceNorm(5), BatchNorm(5), BatchNorm(5).eval()]
)
def test_a_norms_gradient_is_the_same_in_every_memory_layout(norm, images):
    norm.double()
    x, gradient = torch.randn(2, images, 5, 6, 7, dtype=torch.float64)

    def grad(input_layout, gradient_layout):
        leaf = x.clone(memory_format=input_layout).requires_grad_()
        norm(leaf).backward(gradient.clone(memory_format=gradient_layout))
        return leaf.grad

    plain, last = torch.contiguous_format, torch.channels_last
    for layouts in ((plain, last), (last, plain), (last, last)):
        torch.testing.assert_close(grad(*layouts), grad(plain, plain))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_images_are_normed_one_after_the_other_on_a_cpu_alone(device, monkeypatch):
    calls = []
    batch_norm = F.batch_norm
    monkeypatch.setattr(F, "batch_norm", lambda *args: calls.append(len(args[0])) or batch_norm(*args))
    layers.InstanceNorm(5)(torch.empty(3, 5, 4, 4, device=device))
    assert calls == ([1, 1, 1] if device == "cpu" else [])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_large_image_is_normed_exactly(layout):
    images = (torch.randn(1, 3, 1100, 900) + 3).to(memory_format=layout)
    exact = F.instance_norm(images.double()).float()
    normed = layers.InstanceNorm(3)(images)
    torch.testing.assert_close(normed, exact, atol=2e-6, rtol=0)  # torch's batch norm: 1e-4
    assert normed.is_contiguous(memory_format=layout)


class Operations(TorchDispatchMode):
    """The names of the operations inside."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("norm", [layers.InstanceNorm(5), layers.AffineInstanceNorm(5)])
def test_on_a_gpu_a_norm_keeps_channels_last_images_and_does_not_loop_over_them(norm):
    """On the meta device, which takes the GPU's way; backwards too."""
    norm, last, done = copy.deepcopy(norm).to("meta"), torch.channels_last, []
    for count in (1, 4):
        images = torch.empty(count, 5, 6, 7, device="meta", dtype=torch.bfloat16).to(memory_format=last)
        images.requires_grad_()
        gradient = torch.empty_like(images)
        with Operations() as operations:
            made = norm(images)
            made.backward(gradient)
        for each in (made, images.grad):
            assert each.is_contiguous(memory_format=last) and each.dtype == torch.bfloat16
        done.append(operations.names)
        norm.zero_grad()
    assert done[0] == done[1] and not {"aten::clone", "aten::copy_"} & {*done[0]}


@pytest.mark.parametrize("affine", [False, True])
def test_the_norm_in_the_images_own_layout_is_torchs(affine):
    images = torch.randn(3, 5, 6, 7, dtype=torch.float64) * 9 + 4
    gradient, weight, bias = torch.randn_like(images), *torch.randn(2, 5, dtype=torch.float64)
    given = (weight, bias) if affine else (None, None)
    found = []
    for norm in (
        layers.norm_in_layout,
        lambda x, w, b, eps: F.instance_norm(x, None, None, w, b, True, 0.0, eps),
    ):
        leaf = images.clone().requires_grad_()
        made = norm(leaf, *given, 1e-5)
        (slope,) = torch.autograd.grad(made, leaf, gradient, create_graph=True)
        (curve,) = torch.autograd.grad(slope.square().sum(), leaf)
        found.append((made, slope, curve))
    torch.testing.assert_close(found[0], found[1])
    half = images.to(torch.bfloat16)
    assert layers.norm_in_layout(half, None, None, 1e-5).dtype == torch.bfloat16


@pytest.mark.parametrize("upsample", ["resize", "blur"])
def test_upsampling_keeps_half_precision(upsample, monkeypatch):
    """Without autocast, whose rules on CUDA (not on a CPU) make float32 of it."""
    seen, interpolate = [], F.interpolate
    network = layers.upscale(upsample, 4, 2, kernel=3, norm="none")

    def watched(images, *args, **kwargs):
        seen.append((images.dtype, torch.is_autocast_enabled("cpu")))
        return interpolate(images, *args, **kwargs)

    monkeypatch.setattr(F, "interpolate", watched)
    first = next(iter(network.values()))
    with torch.autocast("cpu", torch.bfloat16):
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            assert first(torch.randn(1, 4, 6, 6, dtype=dtype)).dtype == dtype
    assert seen == [(torch.bfloat16, False), (torch.float16, False), (torch.float32, True)]


def test_the_power_iteration_of_a_spectral_norm_stays_in_float32(monkeypatch):
    network = layers.spectrally_normed(PatchDiscriminator(3, width=4, layers=1, norm="none"))
    twin = copy.deepcopy(network)
    seen, mv = [], torch.mv

    def watched(matrix, vector):
        seen.append(torch.is_autocast_enabled("cpu"))
        return mv(matrix, vector)

    monkeypatch.setattr(torch, "mv", watched)
    images = torch.randn(1, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(images).dtype == torch.bfloat16
    assert seen and not any(seen)
    twin(images)
    state, expected = network.state_dict(), twin.state_dict()
    assert state.keys() == expected.keys()  # with torch's names, as in earlier states
    assert all(torch.equal(state[name], expected[name]) for name in state if name.endswith("_u"))


def test_one_pixel_has_no_variance():
    with pytest.raises(ValueError, match="more than 1"):
        layers.InstanceNorm(2)(torch.ones(1, 2, 1, 1))
    with pytest.raises(ValueError, match="one pixel has no variance"):
        layers.norm_in_layout(torch.ones(1, 2, 1, 1), None, None, 1e-5)


@pytest.mark.parametrize("norm", [layers.InstanceNorm(5), layers.AffineInstanceNorm(5), BatchNorm(5).eval()])
@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_norm_is_one_operation(norm, strict):
    program = torch.export.export(norm, (torch.randn(2, 5, 6, 7),), strict=strict)
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert targets == ["aten.instance_norm.default"]


@pytest.mark.filterwarnings("ignore")  # of torch and the exporters about themselves
@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx_has_instance_normalization(dynamo, tmp_path):
    onnx = pytest.importorskip("onnx")
    if dynamo:
        pytest.importorskip("onnxscript")
    network = ResnetGenerator(width=2, blocks=1).eval()
    torch.onnx.export(network, (torch.zeros(1, 3, 16, 16),), str(tmp_path / "x.onnx"), dynamo=dynamo)
    names = [node.op_type for node in onnx.load(tmp_path / "x.onnx").graph.node]
    assert names.count("InstanceNormalization") == 7


def test_affine_instance_norm_is_torchs_and_starts_as_batch_norm():
    ours, torchs = layers.norm_layer("instance-affine", 3), nn.InstanceNorm2d(3, affine=True)
    x = torch.randn(4, 3, 5, 5)
    assert list(ours.state_dict()) == list(torchs.state_dict()) == ["weight", "bias"]
    layers.initialise(ours, gain=0.5)
    assert not ours.weight.eq(1).any() and not ours.bias.any()
    torchs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), torchs(x))


def test_batch_norm_in_train_mode_is_torchs():
    ours, torchs = BatchNorm(3), nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5)
    assert torch.equal(ours(x), torchs(x))
    assert torch.equal(ours.running_var, torchs.running_var)


def test_batch_norm_of_one_image_is_the_same_in_both_modes():
    network, x = networks("batch")[1]
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(x[:1]), network.train()(x[:1]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("norm", ["instance", "instance-affine", "batch", "none"])
def test_at_test_time_nothing_depends_on_neighbours_or_changes(norm):
    for network, x in networks(norm):
        network.double().eval()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        with torch.no_grad():
            together = network(x.double())
            alone = torch.cat([network(each[None].double()) for each in x])
        torch.testing.assert_close(together, alone)
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("norm", ["instance", "instance-affine", "batch", "none"])
def test_per_image_says_whether_training_mixes_images(norm):
    for network, x in networks(norm):
        network.double()
        with torch.no_grad():
            together = network(x.double())[:1]
            alone = network(x[:1].double())
        independent = torch.allclose(together, alone)
        assert independent == (norm != "batch")
        if isinstance(network, Generator):
            assert network.per_image == independent


@pytest.mark.parametrize("norm", ["instance", "instance-affine"])
def test_a_bias_before_an_instance_norm_takes_no_gradient_and_every_other_does(norm):
    for network, x in networks(norm):
        network.double()
        with torch.no_grad():
            before = network(x.double())
            for weight in network.parameters():
                if not weight.requires_grad:
                    weight.add_(torch.randn_like(weight))
            torch.testing.assert_close(network(x.double()), before)  # frozen: it makes no difference
        network(x.double()).square().sum().backward()
        for name, weight in network.named_parameters():
            assert weight.requires_grad or name.endswith("bias")
            assert weight.grad is None or weight.grad.abs().max() > 1e-9, name


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_without_instance_norm_every_weight_is_trained(norm):
    for network, _ in networks(norm):
        assert all(weight.requires_grad for weight in network.parameters())


def test_gradients_are_right():
    for norm in ("instance", "instance-affine", "batch", "none"):
        for network in (
            ResnetGenerator(1, 1, width=1, blocks=1, norm=norm, upsample="resize"),
            UnetGenerator(1, 1, width=1, depth=5, norm=norm),
        ):
            side = network.minimum
            x = torch.randn(1, 1, side, side, dtype=torch.float64, requires_grad=True)
            assert torch.autograd.gradcheck(network.double(), x, fast_mode=True, check_undefined_grad=False)


def test_resize_upsampling_covers_every_pixel_evenly():
    """With equal weights and a constant input no pattern appears, where transposed convolutions show one."""

    def spread(upsample):
        double = nn.Sequential(*layers.upscale(upsample, 4, 1, kernel=3, norm="none").values())
        for weight in double.parameters():
            nn.init.ones_(weight)
        result = double(torch.ones(1, 4, 8, 8))
        assert result.shape == (1, 1, 16, 16)
        return (result.max() - result.min()).item()

    assert spread("resize") == 0
    assert spread("transposed") > 0


@pytest.mark.parametrize(
    ("init", "spread"),
    [
        ("normal", 0.02),
        ("xavier", 0.02 * (2 / (64 * 9 + 128 * 9)) ** 0.5),
        ("kaiming", (2 / (64 * 9)) ** 0.5),
    ],
)
def test_initial_weights_have_the_right_spread(init, spread):
    conv = nn.Conv2d(64, 128, 3)
    initialise(conv, init)
    assert conv.weight.mean().abs() < spread / 50
    assert abs(conv.weight.std() / spread - 1) < 0.02
    assert not conv.bias.any()


def test_orthogonal_weights_are_orthogonal():
    conv = nn.ConvTranspose2d(16, 8, 3)
    initialise(conv, "orthogonal")
    rows = conv.weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, 0.02**2 * torch.eye(16), atol=1e-8, rtol=1e-4)


def test_batch_norms_start_around_one_and_the_seed_decides():
    def start(seed):
        torch.manual_seed(seed)
        network = ResnetGenerator(width=64, blocks=1, norm="batch")
        initialise(network)
        return network

    one, same, other = start(1), start(1), start(2)
    scale = one.blocks[0].norm1.weight
    assert abs(scale.mean() - 1) < 0.01
    assert abs(scale.std() - 0.02) < 0.005
    assert not one.blocks[0].norm1.bias.any()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.enter.conv.weight, other.enter.conv.weight)


def test_dropout_drops_only_in_train_mode():
    network = UnetGenerator(width=1, depth=6, dropout=True, norm="instance")
    assert [type(up.get_submodule("dropout")) for up in list(network.up)[:-1]] == [
        nn.Identity,
        nn.Dropout,
        nn.Identity,
        nn.Identity,
        nn.Identity,
    ]
    resnet = ResnetGenerator(width=2, blocks=2, dropout=True)
    for net, x in ((network, torch.randn(1, 3, 64, 64)), (resnet, torch.randn(1, 3, 16, 16))):
        with torch.no_grad():
            assert not torch.equal(net(x), net(x))
            assert torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize("antialias", [False, True])
def test_features_of_every_layer_are_those_before_a_relu_changes_them_in_place(antialias):
    network = ResnetGenerator(width=2, blocks=2, antialias=antialias).eval()
    images, last = torch.randn(2, 3, 16, 16), len(network.encoder())
    for number in range(last):
        (alone,) = network.features(images, [number])
        assert torch.equal(network.features(images, [number, last])[0], alone), number
