"""The graphs that `export_bytes` makes: their pixels, operators, types and metadata."""

import json
import sys
from collections import Counter

import numpy as np
import pytest
import torch

from twofold.errors import TwofoldError, UsageError
from twofold.exporting.onnx import export_bytes
from twofold.formats.contract import Contract, Labels
from twofold.formats.values import from_network, to_network
from twofold.networks.layers import Generator

onnx = pytest.importorskip("onnx", reason="needs the extra export")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")

NETWORKS = ["resnet", "cut", "skips", "batch", "unet", "encoder-decoder"]


def exported(translator, **form):
    return export_bytes(translator.generator, translator.header, **form)


def run(content, images):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


def expected(translator, batch):
    """The network's values (N, C, H, W) for stored pixels (N, H, W, C)."""
    height, width = batch.shape[1:3]
    padded = np.stack([translator.pad(image) for image in batch])
    inputs = to_network(torch.from_numpy(padded).permute(0, 3, 1, 2), translator.source)
    return translator.forward(inputs).detach()[:, :, :height, :width]


def network_values(translator, batch):
    return to_network(torch.from_numpy(batch).permute(0, 3, 1, 2), translator.source).numpy()


def operators(content):
    return Counter(node.op_type for node in onnx.load_from_string(content).graph.node)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_dynamic_graph_takes_any_size_and_number(made, values, network):
    translator = made(network)
    content = exported(translator)
    for count, height, width in ((1, 40, 64), (2, 33, 50), (3, 7, 5), (1, 2, 71)):
        batch = np.stack([values(translator.source, height, width, seed) for seed in range(count)])
        difference = run(content, network_values(translator, batch)) - expected(translator, batch).numpy()
        assert difference.shape == (count, 3, height, width)
        assert np.abs(difference).max() < 2e-4


@pytest.mark.parametrize("network", NETWORKS)
def test_a_fixed_graph_has_the_layers_operators_and_no_others(made, values, network):
    translator = made(network)
    content = exported(translator, fixed=(64, 96))
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 17)]
    used = operators(content)
    norms = sum("Norm" in type(module).__name__ for module in translator.generator.modules())
    assert used["InstanceNormalization"] == norms > 0
    layers = {"Conv", "ConvTranspose", "Pad", "Relu", "LeakyRelu", "Tanh", "Add", "Concat", "Resize"}
    extra = (
        {"Mul", "Log", "Sub", "Div", "Clip", "Abs", "LessOrEqual", "Where"} if network == "skips" else set()
    )  # the sum before tanh
    assert used.keys() <= {"InstanceNormalization", *layers, *extra}
    shapes = [
        [each.dim_value for each in end[0].type.tensor_type.shape.dim]
        for end in (model.graph.input, model.graph.output)
    ]
    assert shapes == [[1, 3, 64, 96]] * 2
    batch = values(translator.source, 64, 96)[None]
    difference = run(content, network_values(translator, batch)) - expected(translator, batch).numpy()
    assert np.abs(difference).max() < 2e-4


def test_batch_norm_by_image_keeps_scale_and_bias(made):
    translator = made("unet")
    model = onnx.load_from_string(exported(translator, fixed=(32, 32)))
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    norms = [node for node in model.graph.node if node.op_type == "InstanceNormalization"]
    ours = [module for module in translator.generator.modules() if type(module).__name__ == "BatchNorm"]
    assert len(norms) == len(ours) == 7
    for node in norms:
        scale, bias = (stored[name] for name in node.input[1:])
        pairs = ((each.weight.numpy(), each.bias.numpy()) for each in ours)
        assert any(np.array_equal(scale, weight) and np.array_equal(bias, shift) for weight, shift in pairs)
    assert "Dropout" not in operators(exported(translator))


@pytest.mark.parametrize(
    "name",
    [
        "grey to RGB",
        "4 bands of 12 bits",
        "own ranges",
        "floats",
        "ids",
        "one-hot ids",
        "one-hot colours",
        "colours",
    ],
)
@pytest.mark.parametrize("fixed", [None, (32, 40)])
def test_stored_values_in_and_out(made, values, name, fixed):
    translator = made("resnet", name)
    source, target = translator.source, translator.target
    content = exported(translator, io="uint8", fixed=fixed)
    batch = values(source, *(fixed or (21, 34)))[None]
    found, wanted = (
        run(content, batch),
        from_network(expected(translator, batch), target).permute(0, 2, 3, 1).numpy(),
    )
    assert (found.dtype, found.shape) == (np.dtype(target.dtype), wanted.shape)
    assert wanted.std() > 0
    dynamic = {"Shape", "Range", "ConstantOfShape", "Loop", "If", "Size", "NonZero"}
    assert not dynamic & operators(content).keys() or fixed is None
    assert not {"Loop", "If"} & operators(content).keys()
    assert np.abs(found.astype(float) - wanted).max() <= (1 if found.dtype.kind in "iu" else 1e-3)


def test_values_outside_the_range_and_unknown_ids_are_those_next_to_them(made):
    translator = made("resnet", "own ranges")
    content = exported(translator, io="uint8")
    outside = np.array([0, 255], np.uint8)[None, :, None, None] * np.ones((1, 2, 12, 2), np.uint8)
    wanted = from_network(expected(translator, outside), translator.target).permute(0, 2, 3, 1).numpy()
    assert np.abs(run(content, outside).astype(int) - wanted).max() <= 1
    translator = made("resnet", "ids")
    content = exported(translator, io="uint8")
    ids = np.random.default_rng(0).integers(0, 256, (1, 20, 20, 1)).astype(np.uint8)
    nearest = np.array([3, 7, 200], np.uint8)[np.digitize(ids, [5.5, 103.5])]
    assert np.array_equal(run(content, ids), run(content, nearest))


def test_colours_between_the_classes_become_the_nearest(made):
    translator = made("resnet", "one-hot colours")
    colours = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3)).astype(np.uint8)
    found = run(exported(translator, io="uint8"), colours)
    wanted = from_network(expected(translator, colours), translator.target).permute(0, 2, 3, 1).numpy()
    assert np.abs(found.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("name", [None, "4 bands of 12 bits"])
@pytest.mark.parametrize("io", ["float", "uint8"])
@pytest.mark.parametrize("network", ["resnet", "unet"])
def test_half_precision_keeps_norms_and_ends_in_their_types(made, values, name, io, network):
    translator = made(network, name)
    whole, half = (exported(translator, io=io, fp16=fp16, fixed=(32, 32)) for fp16 in (False, True))
    model = onnx.load_from_string(half)
    kinds = {each.name: each.data_type for each in model.graph.initializer}
    norms = [node for node in model.graph.node if node.op_type == "InstanceNormalization"]
    assert {kinds[name] for node in norms for name in node.input[1:]} == {onnx.TensorProto.FLOAT}
    convolutions = [node for node in model.graph.node if node.op_type.startswith("Conv")]
    assert {kinds[node.input[1]] for node in convolutions} == {onnx.TensorProto.FLOAT16}
    images = values(translator.source, 32, 32)[None]
    images = network_values(translator, images) if io == "float" else images
    one, other = run(whole, images), run(half, images)
    assert one.dtype == other.dtype
    span = 2 if io == "float" else translator.target.span
    assert 0 < np.abs(one.astype(float) - other).max() / span < 0.03


def test_metadata_and_equal_bytes(made):
    translator = made("cut")
    first, second = (exported(translator, io="uint8", fixed=(32, 64)) for _ in range(2))
    assert first == second
    model = onnx.load_from_string(first)
    metadata = {each.key: each.value for each in model.metadata_props}
    assert metadata["twofold"] == translator.header.to_json()
    form = {"io": "uint8", "fixed": [32, 64], "fp16": False, "multiple_of": 4, "minimum": 8}
    assert json.loads(metadata["twofold_form"]) == form
    assert list(metadata["twofold"]) and not any(node.doc_string for node in model.graph.node)


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        (
            (62, 64),
            "--fixed 64x62: this network takes multiples of 4 from 8 px up; instead of 62 use 60 or 64",
        ),
        ((64, 4), "--fixed 4x64: .* instead of 4 use 8"),
        ((2**20, 2**20), "--fixed 1048576x1048576 is too large: .* MiB of memory"),
    ],
)
def test_a_wrong_fixed_size_names_the_nearest(made, fixed, message):
    with pytest.raises(UsageError, match=message):
        exported(made(), fixed=fixed)


LABELS = Contract(channels=1, found="labels", labels=Labels(((1,), (2,))))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"lab": True}, "works in Lab, .* --io float"),
        ({"contracts": (Contract(), LABELS)}, "makes label maps, .* --io float"),
        (
            {"contracts": (Contract("int32", 1, (0.0,), (9.0,)), Contract())},
            "not for int32 images; .* --io float",
        ),
    ],
)
def test_values_that_a_graph_cannot_store_are_refused(made, more, message):
    translator = made(**more)
    with pytest.raises(UsageError, match=message):
        exported(translator, io="uint8")
    assert exported(translator)


@pytest.mark.parametrize("network", NETWORKS)
def test_opencv_gives_the_same_pixels(made, values, network):
    cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless")
    translator = made(network)
    net = cv2.dnn.readNetFromONNX(np.frombuffer(exported(translator, fixed=(64, 96)), np.uint8))
    batch = values(translator.source, 64, 96)[None]
    net.setInput(network_values(translator, batch))
    pixels, wanted = (
        from_network(each, translator.target)
        for each in (torch.from_numpy(net.forward()), expected(translator, batch))
    )
    assert wanted.float().std() > 5
    assert (pixels.int() - wanted.int()).abs().max() <= 1 and (pixels != wanted).float().mean() < 0.001


class Plugin(Generator):
    """A generator of a user, in one of several ways that no graph can follow."""

    multiple_of, minimum, per_image = 4, 8, True

    def __init__(self, way):
        super().__init__()
        self.way, self.conv = way, torch.nn.Conv2d(3, 3, 3, padding=1)
        self.arguments = {"in_channels": 3, "out_channels": 3, "width": 1, "upsample": "resize"}

    def forward(self, images):
        if self.way == "branch" and images.mean() > 0:
            return self.conv(-images)
        if self.way == "loop":
            for _ in range(int(images.abs().max() * 9)):
                images = self.conv(images)
        if self.way == "operator":
            return torch.linalg.matrix_exp(images)
        return torch.tanh(self.conv(images))


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("branch", r"cannot be exported: line \d+ of .*test_onnx.py decides by the values of a tensor"),
        ("loop", r"cannot be exported: line \d+ of .*test_onnx.py decides by the values of a tensor"),
        ("operator", "cannot be exported: .*matrix_exp"),
    ],
)
def test_a_network_that_no_graph_can_follow_is_refused(made, way, message):
    with pytest.raises(TwofoldError, match=message) as caught:
        export_bytes(Plugin(way).eval(), made().header)
    assert "\n" not in str(caught.value)
    assert export_bytes(Plugin("plain").eval(), made().header)


def test_a_full_disk_is_one_line(made):
    resource = pytest.importorskip("resource", reason="Unix only")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(TwofoldError, match=r"has no room for it .* free some space there"):
            exported(made("resnet"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(made, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"the package {package}: pip install 'twofold\[export\]'"):
        exported(made())
