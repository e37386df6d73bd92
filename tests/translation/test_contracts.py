"""Translators of any type of pixels: their scale, their precision, and one result for each kind of input."""

import numpy as np
import pytest
import torch
from PIL import Image

from twofold.errors import TwofoldError, UsageError
from twofold.formats import images
from twofold.formats.contract import Contract, Labels
from twofold.formats.scale import Geometry
from twofold.formats.values import from_network, to_network
from twofold.networks.registry import describe
from twofold.translation.header import Header
from twofold.translation.translator import Translator

CONTRACTS = [
    Contract("uint8", 3),
    Contract("uint8", 1, (10.0,), (200.0,), "settings"),
    Contract("uint16", 1, (0.0,), (4095.0,), "bits"),
    Contract("uint16", 3, high=(65535.0,)),
    Contract("uint16", 6, (0.0,) * 6, (100.0, 200.0, 4095.0, 999.0, 65535.0, 7.0), "percentiles"),
    Contract("int8", 1, (-128.0,), (127.0,)),
    Contract("int16", 1, (-1024.0,), (3071.0,), "percentiles"),
    Contract("float32", 2, (-2.5,), (7.5,), "percentiles"),
    Contract("float16", 1, (0.0,), (1.0,), "percentiles"),
    Contract("float64", 1, (1e-3,), (2e-3,), "percentiles"),
    Contract("int32", 1, (-1e6,), (1e6,), "percentiles"),
]


def pixels(contract, height=24, width=20, seed=0):
    """Random pixels within the range of a contract."""
    rng = np.random.default_rng(seed)
    low, high = (np.broadcast_to(limits, contract.channels) for limits in (contract.low, contract.high))
    values = low + rng.random((height, width, contract.channels)) * (high - low)
    values = values if contract.dtype.startswith("float") else values.round()
    return values.clip(low, high).astype(contract.dtype)


@pytest.fixture(params=CONTRACTS, ids=lambda c: f"{c.dtype}-{c.channels}")
def contract(request):
    return request.param


def test_an_identity_gives_back_its_input(by_contract, contract):
    made, image = by_contract(contract, identity=True), pixels(contract)
    result = made.array(image)
    assert result.dtype == contract.dtype and result.shape == image.shape
    if contract.dtype.startswith("float"):
        step = 2 * np.finfo(contract.dtype).eps * max(map(abs, contract.high))
        assert np.abs(result.astype(float) - image).max() <= 1e-6 * contract.span + step
    elif contract.dtype == "int32":
        assert np.abs(result.astype(float) - image).max() <= 1e-6 * contract.span
    else:
        assert np.array_equal(result, image)


def test_all_kinds_of_arrays_and_tensors_are_one_image(by_contract, contract):
    made, image = by_contract(contract, resize="shortest"), pixels(contract)
    result, planes = made(image), torch.from_numpy(image).permute(2, 0, 1)
    frozen = image.copy()
    frozen.setflags(write=False)
    backwards = image[::-1, ::-1].copy()[::-1, ::-1]
    swapped = image.astype(image.dtype.newbyteorder(">"))
    spread = np.zeros((24, 40, image.shape[2]), image.dtype)
    spread[:, ::2] = image
    for same in (frozen, backwards, swapped, spread[:, ::2], np.asfortranarray(image)):
        assert np.array_equal(made(same), result)
    for given in (planes, planes.contiguous()):
        tensor = made(given)
        assert tensor.dtype == getattr(torch, contract.dtype) and tensor.is_contiguous()
        assert np.array_equal(tensor.permute(1, 2, 0).numpy(), result)
    batch = made(torch.stack([planes] * 3))
    assert batch.shape == (3, *planes.shape)
    near = 0 if contract.is_deep else 1
    assert all(np.abs(one.permute(1, 2, 0).numpy().astype(float) - result).max() <= near for one in batch)
    if contract.channels == 1:
        assert np.array_equal(made(image[..., 0]), result[..., 0])


def test_floats_are_the_same_image(by_contract, contract):
    """In [0, 1], and in the contract's units, from a NumPy array and from a tensor."""
    made, image = by_contract(contract, resize="shortest", identity=True), pixels(contract)
    low, high = np.array(contract.low), np.array(contract.high)
    result = made.array(image).astype(float)
    exact = contract.dtype not in ("float32", "float64", "float16", "int32")
    near = 0 if exact else 1e-5 * contract.span + 2e-3 * (contract.dtype == "float16")
    units = made(image.astype(np.float64), values="contract")
    assert units.dtype == np.float32 and np.abs(units - result.astype(np.float32)).max() <= near
    ones = (image - low) / (high - low)
    given = torch.from_numpy(ones.astype(np.float32)).permute(2, 0, 1)
    for output in (made(ones, values="unit"), made(given, values="unit").permute(1, 2, 0).numpy()):
        assert output.dtype == np.float32 and output.min() >= 0 and output.max() <= 1
        back = low + output.astype(float) * (high - low)
        back = back.round() if exact else back
        assert np.abs(back - result).max() <= near


def test_half_floats_are_taken(by_contract):
    made, image = by_contract(Contract(), identity=True), torch.rand(3, 16, 16).bfloat16()
    assert torch.equal(made(image, values="unit"), made(image.float(), values="unit"))


@pytest.mark.parametrize(
    ("resize", "worked"), [("shortest", (36, 72)), ("resize-and-crop", (36, 36)), ("scale-width", (18, 36))]
)
def test_trained_is_the_scale_of_training(by_contract, ct, resize, worked):
    made, image = by_contract(ct, resize=resize), pixels(ct, 40, 80)
    assert made.working_size(40, 80) == worked
    seen = images.resize(image, *worked)
    padded = torch.from_numpy(made.pad(seen)).permute(2, 0, 1)[None]
    with torch.no_grad():
        direct = made.generator(to_network(padded, ct))[0, :, : worked[0], : worked[1]]
    exact = images.resize(direct.permute(1, 2, 0).contiguous().numpy(), 40, 80)
    expected = from_network(torch.from_numpy(exact).permute(2, 0, 1), ct).permute(1, 2, 0).numpy()
    assert np.array_equal(made.array(image), expected)
    assert made.working_size(40, 80, "native") == (40, 80) and made.working_size(40, 80, 40) == (28, 56)


@pytest.mark.parametrize("bits", [12, 16])
def test_deep_outputs_are_within_a_level_of_float32(by_contract, bits):
    """Also where the result is enlarged to the image's size: it is rounded once."""
    deep = Contract("uint16", 1, (0.0,), (2.0**bits - 1,), "bits")
    floats = Contract("float32", 1, deep.low, deep.high)
    image = pixels(deep, 90, 70)
    for resize in ("crop", "shortest"):
        integers, exact = by_contract(deep, resize=resize), by_contract(deep, floats, resize=resize)
        result = integers.array(image).astype(float)
        assert np.abs(result - exact.array(image)).max() <= 0.5 + 1e-3
        assert len(np.unique(result)) > 256


def test_six_bands_in_and_ct_out(by_contract, bands, ct):
    made, image = by_contract(bands, ct, resize="shortest"), pixels(bands, 50, 30)
    result = made.array(image)
    assert result.shape == (50, 30, 1) and result.dtype == np.int16
    assert result.min() < 0 < result.max() and len(np.unique(result)) > 256
    assert made(torch.from_numpy(image).permute(2, 0, 1)).dtype == torch.int16


def test_auto_is_float32_for_deep_models(by_contract, ct, tmp_path, monkeypatch):
    monkeypatch.setattr("twofold.hardware.fast_bf16", lambda device: True)
    seen = []
    monkeypatch.setattr(
        "twofold.translation.translator.make_forward",
        lambda backend, generator, precision, noise: seen.append(precision),
    )
    for name, contract in (("deep", ct), ("plain", Contract(channels=1))):
        by_contract(contract).save(tmp_path / f"{name}.safetensors")
        for precision in ("auto", "bf16"):
            Translator.load(tmp_path / f"{name}.safetensors", device="cpu", precision=precision)
    assert [each for each in seen if each] == ["float32", "float32", "bf16", "float32", "bf16", "bf16"]


@pytest.mark.parametrize("onehot", [False, True])
def test_label_maps_in_and_out(by_contract, onehot):
    labels = Labels(((0,), (3,), (9,)), palette=((0, 0, 0), (9, 9, 9)), onehot=onehot)
    ids = Contract("uint8", 1, found="labels", labels=labels)
    image = np.array([0, 3, 9], np.uint8)[np.random.default_rng(0).integers(0, 3, (40, 80, 1))]
    made = by_contract(ids, identity=True)
    assert np.array_equal(made.array(image), image)
    small = by_contract(ids, identity=True, resize="shortest", load_size=16)
    expected = images.resize(images.resize(image, 16, 32, nearest=True), 40, 80, nearest=True)
    assert np.array_equal(small.array(image), expected)
    picture = made(Image.fromarray(image[..., 0]))
    assert picture.mode == "P" and np.array_equal(np.array(picture), image[..., 0])
    with pytest.raises(UsageError, match="leave out values"):
        made(image.astype(np.float32), values="unit")


# ---- refusals


def test_other_types_are_named_with_what_the_model_takes(by_contract, ct):
    made, image = by_contract(ct), pixels(ct)
    takes = r"this model takes int16, 1 channel, -1,024…3,071, not"
    for wrong, message in [
        (image.astype(np.int64), f"{takes} int64"),
        (image > 0, f"{takes} bool"),
        (image.astype(np.float32) + 0.5, f"{takes} float32 .*values="),
        (image.astype(complex), f"{takes} complex128"),
    ]:
        with pytest.raises(UsageError, match=message) as caught:
            made(wrong)
        assert "\n" not in str(caught.value)
    for wrong, message in [
        (image.repeat(2, 2), r"takes int16 images \(H, W, 1\), not int16 \(24, 20, 2\)"),
        (np.full((8, 8), np.nan, np.float32), "not finite"),
    ]:
        with pytest.raises(UsageError, match=message):
            made(wrong)
    with pytest.raises(UsageError, match='values must be "stored", "unit" or "contract", not'):
        made(image, values="percent")
    with pytest.raises(UsageError, match="takes floats, not int16"):
        made(image, values="unit")
    with pytest.raises(UsageError, match="for arrays and tensors of floats"):
        made(Image.new("L", (8, 8)), values="unit")


def test_pil_gets_what_it_can_hold(by_contract, ct):
    with pytest.raises(
        UsageError, match=r"the model gives int16, which PIL cannot hold; use translator\.array"
    ):
        by_contract(ct)(Image.new("I", (8, 8)))
    assert by_contract(ct, identity=True).array(Image.new("I", (8, 8), -7)).tolist() == [[[-7]] * 8] * 8
    for dtype, mode in (("uint16", "I;16"), ("int32", "I"), ("float32", "F")):
        made = by_contract(Contract(dtype, 1, (0.0,), (1000.0,), "percentiles"), identity=True)
        result = made(Image.new(mode, (8, 8), 500))
        assert result.mode == mode and np.abs(np.array(result, float) - 500).max() < 1e-3
    with pytest.raises(UsageError, match="the model gives 6 channels, which PIL cannot hold"):
        by_contract(Contract(), CONTRACTS[4])(Image.new("RGB", (8, 8)))


def test_a_model_whose_network_does_not_fit_its_contract_is_no_model(resnet):
    with pytest.raises(ValueError, match="the network has 3 channels"):
        Header.of(describe(resnet()), "ab", CONTRACTS[2], CONTRACTS[2], Geometry("crop", 36, 32))
    with pytest.raises(TwofoldError):
        Translator.load("no.safetensors")
