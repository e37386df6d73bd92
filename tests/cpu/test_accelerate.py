"""What an accelerated network shares with a plain one, and where it computes as torch does."""

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.flop_counter import FlopCounterMode

from twofold.cpu import accelerate as acceleration
from twofold.cpu import native
from twofold.cpu.accelerate import accelerate
from twofold.cpu.filter_gradients import StridedConv, TransposedConv
from twofold.cpu.winograd import WinogradConv
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.layers import InstanceNorm
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.unet import UnetGenerator

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of torch about itself

FUNCTIONS = (WinogradConv, StridedConv, TransposedConv)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def used(monkeypatch):
    """The names of the fast convolutions that are used."""
    names = []
    for function in FUNCTIONS:
        convolved = function.convolved
        monkeypatch.setattr(
            function,
            "convolved",
            lambda *args, f=function, made=convolved: names.append(f.__name__) or made(*args),
        )
    return names


def users_network():
    """As somebody else may write one."""
    return nn.Sequential(
        nn.ReflectionPad2d(3),
        nn.Conv2d(3, 32, 7),
        nn.InstanceNorm2d(32),
        nn.ReLU(True),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.BatchNorm2d(64),
        nn.ReflectionPad2d(1),
        nn.Conv2d(64, 80, 3),
        nn.LeakyReLU(0.2, True),
        nn.Conv2d(80, 80, 3, padding=1),
        nn.ConvTranspose2d(80, 16, 3, stride=2, padding=1, output_padding=1),
        nn.Conv2d(16, 3, 1),
        nn.Tanh(),
    )


def images(*shape, **given):
    return torch.randn(*(shape or (2, 3, 16, 12)), **given)


@pytest.mark.parametrize("kernels", [True, False])
def test_a_users_network(kernels, used):
    """The same values and gradients, by other means."""
    network, x = users_network(), images()
    keys, right = list(network.state_dict()), network(x)
    expected = torch.autograd.grad(right.square().sum(), list(network.parameters()))
    assert accelerate(network, kernels=kernels) is network
    made = network(x)
    found = torch.autograd.grad(made.square().sum(), list(network.parameters()))
    assert used == ["StridedConv", "WinogradConv", "WinogradConv", "TransposedConv"]
    assert list(network.state_dict()) == keys
    torch.testing.assert_close(made, right, rtol=1e-4, atol=1e-4)
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).norm()) < 1e-3 * float(other.norm()) + 1e-4


def test_an_accelerated_layer_keeps_its_kernels():
    network = accelerate(nn.Sequential(nn.Conv2d(3, 4, 3)), kernels=False)
    network.append(nn.Conv2d(4, 4, 3))
    accelerate(network)
    assert [layer.kernels for layer in network] == [False, True]


def test_a_copy_is_accelerated_and_has_its_own_weights():
    network = accelerate(users_network(), kernels=False)
    copied = copy.deepcopy(network)
    assert [type(layer) for layer in copied] == [type(layer) for layer in network]
    assert copied[1].kernels is False
    assert copied[1].weight is not network[1].weight and torch.equal(copied[1].weight, network[1].weight)
    x = images()
    assert torch.equal(copied(x), network(x))


def test_a_pickle_holds_torchs_own_layers():
    """So that it can be loaded where this package is not installed."""
    network, x = users_network(), images()
    kinds, right = [type(layer) for layer in network], network(x)
    content = pickle.dumps(accelerate(network))
    assert b"twofold" not in content
    loaded = pickle.loads(content)
    assert [type(layer) for layer in loaded] == kinds
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    for other in (loaded, torch.load(file, weights_only=False)):
        assert torch.equal(other(x), right)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(64, 64, 3, padding=1, groups=2),
        nn.Conv2d(64, 64, 3, padding=2, dilation=2),
        nn.Conv2d(64, 64, (3, 1), padding=(1, 0)),
        nn.Conv2d(64, 64, 3, stride=(1, 2), padding=1),
        nn.Conv2d(64, 64, 3, padding="same"),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular"),
        nn.ConvTranspose2d(64, 64, 3),
        nn.ConvTranspose2d(64, 64, 3, 2, 1, output_padding=(1, 0)),
        spectral_norm(nn.Conv2d(64, 64, 3, padding=1)),
        type("Own", (nn.Conv2d,), {})(64, 64, 3, padding=1),
        nn.InstanceNorm2d(64),
        nn.Conv1d(64, 64, 3),
    ],
    ids=str,
)
def test_layers_that_are_left_as_they_are(layer):
    kind = type(layer)
    assert type(accelerate(layer)) is kind


def test_a_hook_on_a_norm_sees_its_values_and_has_the_right_gradient():
    """Before a ReLU that works in place."""
    for precision in (torch.float32, torch.bfloat16):
        network = nn.Sequential(
            nn.Conv2d(3, 40, 3, padding=1), InstanceNorm(40), nn.ReLU(inplace=True), nn.Conv2d(40, 40, 3)
        ).to(memory_format=torch.channels_last)
        seen, x = [], images().contiguous(memory_format=torch.channels_last)
        network[1].register_forward_hook(lambda module, given, made, seen=seen: seen.append(made.clone()))
        accelerate(network)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            made = network(x)
        normed = F.instance_norm(F.conv2d(x, network[0].weight, padding=1))
        loose = {} if precision == torch.float32 else {"rtol": 0.02, "atol": 0.05}
        torch.testing.assert_close(seen[0].float(), normed, **(loose or {"rtol": 1e-4, "atol": 1e-4}))
        assert float(seen[0].detach().min()) < -1, "not rectified"
        weights = torch.randn_like(normed)
        (mine,) = torch.autograd.grad(
            (seen[0].float() * weights).sum() + made.float().square().sum(), network[0].weight
        )
        right = (normed * weights).sum() + F.conv2d(
            normed.relu(), network[3].weight, network[3].bias
        ).square().sum()
        (expected,) = torch.autograd.grad(right, network[0].weight)
        assert float((mine - expected).norm() / expected.norm()) < (1e-3 if not loose else 0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_without_autocast_is_torchs_own(dtype, used):
    network, x = users_network().to(dtype), images(dtype=dtype)
    right = network(x)
    assert torch.equal(accelerate(network)(x), right) and not used
    for build in (ResnetGenerator(width=32, blocks=1, antialias=True), PatchDiscriminator(width=32)):
        network, x = build.to(dtype).to(memory_format=torch.channels_last), images(1, 3, 32, 32, dtype=dtype)
        right = network(x)
        assert torch.equal(accelerate(network)(x), right) and not used


@pytest.mark.parametrize("precision", [torch.float16, torch.float64])
def test_other_autocast_is_torchs_own(precision, used):
    """To float16; and of float64, which autocast leaves alone."""
    dtype = torch.float32 if precision == torch.float16 else precision
    conv, x = accelerate(nn.Conv2d(64, 64, 3, padding=1)).to(dtype), images(1, 64, 8, 8, dtype=dtype)
    to = torch.float16 if precision == torch.float16 else torch.bfloat16
    with torch.autocast("cpu", to):
        made, right = conv(x), nn.Conv2d.forward(conv, x)
    assert made.dtype == right.dtype == precision and torch.equal(made, right) and not used


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_batch_of_no_images(layout):
    for network in (users_network(), ResnetGenerator(width=32, blocks=1), UnetGenerator(width=32, depth=5)):
        for train in (True, False):
            network, x = network.to(memory_format=layout).train(train), torch.zeros(0, 3, 32, 32)
            if train and any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()):
                continue  # torch has no statistics then
            accelerate(network)
            with torch.no_grad():
                assert network(x).shape == (0, 3, 32, 32)
            with torch.autocast("cpu", torch.bfloat16):
                assert network(x).shape == (0, 3, 32, 32)
            network(x.requires_grad_()).sum().backward()
            assert all(p.grad is None or not p.grad.any() for p in network.parameters())


def conv_and_twin():
    layers = nn.Sequential(
        nn.Conv2d(4, 64, 3, stride=2, padding=1),
        nn.Conv2d(64, 80, 3, padding=1, padding_mode="reflect"),
        InstanceNorm(80),
        nn.ReLU(inplace=True),
        nn.ReflectionPad2d(1),
        nn.ConvTranspose2d(80, 4, 4, 2, 1),
    ).double()
    return accelerate(copy.deepcopy(layers)), layers


def test_function_transforms():
    fast, twin = conv_and_twin()
    x, direction = images(3, 4, 12, 12, dtype=torch.float64), images(3, 4, 12, 12, dtype=torch.float64)

    def loss(network):
        return lambda weights, x: torch.func.functional_call(network, weights, (x,)).square().sum()

    grads = [torch.func.grad(loss(network))(dict(network.named_parameters()), x) for network in (fast, twin)]
    for name, right in grads[1].items():
        torch.testing.assert_close(grads[0][name], right)
    made, right = (torch.func.jvp(network, (x,), (direction,)) for network in (fast, twin))
    torch.testing.assert_close(made, right)
    made, right = (torch.func.vmap(lambda one, n=n: n(one[None])[0])(x) for n in (fast, twin))
    torch.testing.assert_close(made, right)
    per_image = torch.func.vmap(torch.func.grad(lambda one: fast(one[None]).square().sum()))(x)
    assert per_image.shape == x.shape


def test_forward_mode_gradients():
    fast, twin = conv_and_twin()
    x, direction = images(1, 4, 12, 12, dtype=torch.float64), images(1, 4, 12, 12, dtype=torch.float64)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, direction)
        made, right = (forward_ad.unpack_dual(network(dual)) for network in (fast, twin))
        torch.testing.assert_close(made.tangent, right.tangent)


def test_tensors_without_data(used):
    from torch._subclasses.fake_tensor import FakeTensorMode

    fast, _ = conv_and_twin()
    with FakeTensorMode(allow_non_fake_inputs=True):
        made = fast(torch.randn(2, 4, 12, 12, dtype=torch.float64))
        assert made.shape == (2, 4, 16, 16) and type(made).__name__ == "FakeTensor"
    assert fast.to("meta")(torch.empty(2, 4, 12, 12, dtype=torch.float64, device="meta")).shape == made.shape
    assert not used


def test_what_counts_operations_sees_them(used):
    """A dispatch mode, such as torch's counter of operations."""
    counts = []
    for network in conv_and_twin():
        with FlopCounterMode(display=False) as counter:
            network(images(1, 4, 12, 12, dtype=torch.float64)).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0 and not used


def test_second_gradients_of_a_network():
    fast, twin = conv_and_twin()
    seconds = []
    for network in (fast, twin):
        x = torch.linspace(-1, 1, 2 * 4 * 144, dtype=torch.float64).sin().view(2, 4, 12, 12).requires_grad_()
        (first,) = torch.autograd.grad(network(x).sin().sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), [x, network[0].weight, network[1].weight]))
    for one, other in zip(*seconds, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_holds_torchs_operations():
    fast, _ = conv_and_twin()
    graph = torch.jit.trace(fast, images(1, 4, 12, 12, dtype=torch.float64)).inlined_graph
    kinds = [node.kind() for node in graph.nodes()]
    assert kinds.count("aten::_convolution") == 3 and "aten::instance_norm" in kinds
    assert not [kind for kind in kinds if "Python" in kind]


def test_an_exported_program_is_the_plain_ones():
    fast, twin = conv_and_twin()
    x = images(2, 4, 12, 12, dtype=torch.float64)
    programs = [torch.export.export(network.eval(), (x,)) for network in (fast, twin)]
    operations = [[str(node.target) for node in program.graph.nodes] for program in programs]
    assert operations[0] == operations[1] and "aten.instance_norm.default" in operations[0]


def test_a_compiled_network_is_compiled_whole(used):
    fast, twin = conv_and_twin()
    x = images(2, 4, 12, 12, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(fast, backend="aot_eager", fullgraph=True)
    made, right = compiled(x), twin(x)
    torch.testing.assert_close(made, right)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), x)[0] for y in (made, right)))
    torch.compiler.reset()
    assert not used


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(64, 64, 3, padding=1), (1, 63, 8, 8)),
        (nn.Conv2d(64, 64, 4), (1, 64, 3, 8)),
        (nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect"), (1, 64, 1, 8)),
        (nn.ConvTranspose2d(64, 64, 4, 2, 1), (1, 63, 8, 8)),
        (nn.Conv2d(8, 8, 4, 2, 1), (1, 8, 0, 8)),
        (nn.ReflectionPad2d(2), (1, 64, 2, 8)),
    ],
    ids=str,
)
def test_what_torch_refuses_is_refused_as_torch_does(layer, shape):
    messages = []
    for each in (layer, accelerate(copy.deepcopy(layer))):
        with pytest.raises(RuntimeError) as caught:
            each(torch.zeros(shape))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_an_image_without_a_batch(used):
    conv, x = accelerate(nn.Conv2d(64, 80, 3, padding=1)), images(64, 9, 9)
    torch.testing.assert_close(conv(x), nn.Conv2d.forward(conv, x))
    assert conv(x).shape == (80, 9, 9) and not used


def test_another_default_device_does_not_matter():
    conv, x = accelerate(nn.Conv2d(64, 80, 3, padding=1)), images(1, 64, 9, 9)
    right = conv(x)
    with torch.device("meta"):
        assert torch.equal(conv(x), right)


@pytest.mark.parametrize("available", [True, False])
def test_whether_kernels_are_used_is_the_networks_own(available, monkeypatch):
    """One with kernels and one without, side by side in a process."""
    if available and not native.available():
        pytest.skip("no C compiler, or not Linux")
    called = []
    call = native.Kernels.call
    monkeypatch.setattr(native.Kernels, "call", lambda *args: called.append(args[1]) or call(*args))
    if not available:
        monkeypatch.setattr(native, "kernels", lambda: None)
    conv = nn.Conv2d(96, 96, 3, padding=1)
    networks = [accelerate(copy.deepcopy(conv), kernels=kernels) for kernels in (True, False)]
    x, counts = images(1, 96, 12, 12), []
    for network in networks:
        torch.testing.assert_close(network(x), conv(x), rtol=1e-4, atol=1e-4)
        counts.append(len(called))
    assert counts == ([3, 3] if available else [0, 0])


def test_small_layers_of_a_generator_are_torchs(monkeypatch):
    monkeypatch.setattr(WinogradConv, "convolved", None)
    assert acceleration.NATIVE_WINOGRAD_FROM > 4 * 4
    accelerate(ResnetGenerator(width=1, blocks=1))(torch.zeros(1, 3, 16, 16))
