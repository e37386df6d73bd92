"""Stored pixels to the type and channels of a contract, against one pixel at a time."""

import numpy as np
import pytest
from PIL import Image, ImageCms

from twofold.formats import images
from twofold.formats.contract import DTYPES, Contract, Labels
from twofold.formats.facts import Facts
from twofold.formats.images import ImageError, Metadata, Stored, fit, metadata_of_fitted
from twofold.formats.metadata import srgb_profile


def stored(pixels, bits=None, alpha=False, icc=b""):
    height, width, channels = pixels.shape
    bits = bits or pixels.itemsize * 8
    facts = Facts(width, height, channels, channels == 1, pixels.dtype.name, bits, alpha)
    return Stored(pixels, facts, Metadata(icc=icc))


def contract(dtype, channels=1, low=0.0, high=1.0, **more):
    return Contract(dtype, channels, (low,), (high,), **more)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_equal_type_and_channels_are_left_alone(values, dtype, channels):
    pixels = values(dtype, (3, 4, channels))
    assert fit(stored(pixels), contract(dtype, channels)) is pixels


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_deeper_integers_to_bytes(bits):
    most = 2**bits - 1
    pixels = np.arange(most + 1, dtype=np.uint16).reshape(1, -1, 1)
    expected = [round(value * 255 / most) for value in range(most + 1)]
    assert fit(stored(pixels, bits), contract("uint8")).ravel().tolist() == expected


@pytest.mark.parametrize("dtype", ["int16", "uint32", "int32"])
def test_wider_integers_to_bytes_only_within_16_bits(dtype):
    top = min(65535, np.iinfo(dtype).max)
    pixels = np.array([[[0], [top], [300]]], dtype)
    assert fit(stored(pixels), contract("uint8")).ravel().tolist() == [0, round(top / 257), 1]
    for wrong in (-1, 65536):
        if np.iinfo(dtype).min <= wrong <= np.iinfo(dtype).max:
            pixels[0, 0, 0] = wrong
            with pytest.raises(ImageError, match="values outside 0 to 65,535"):
                fit(stored(pixels), contract("uint8"))


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32", "float64"])
def test_values_of_an_unknown_scale_do_not_become_bytes(dtype):
    with pytest.raises(ImageError, match=r"floating-point numbers \(float|values outside"):
        fit(stored(np.ones((2, 2, 1), dtype)), contract("uint8"))


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_bytes_are_stretched_onto_the_range(dtype):
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 256, 1)
    made = fit(stored(pixels), contract(dtype, 1, 87, 3912))
    assert made.dtype == dtype
    assert made.ravel().tolist() == [round(87 + value * 3825 / 255) for value in range(256)]
    each = Contract(dtype, 3, (0.0, 10.0, 20.0), (255.0, 265.0, 4095.0))
    found = fit(stored(pixels.repeat(3, axis=2)), each)[0, [0, 255]]
    assert found.tolist() == [[0, 10, 20], [255, 265, 4095]]


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", [name for name in DTYPES if name != "uint8"])
@np.errstate(over="ignore")
def test_other_types_keep_their_values_or_are_refused(source, target):
    if source == "uint8" and target.startswith("u"):
        return
    made = fit(stored(np.array([[[0], [7], [100]]], source)), contract(target))
    assert made.dtype == target and made.ravel().tolist() == [0, 7, 100]
    limits = np.finfo(source) if source.startswith("f") else np.iinfo(source)
    for value in (limits.max, limits.min):
        pixels = np.array([[[value]]], source)
        ends = np.finfo(target) if target.startswith("f") else np.iinfo(target)
        value = value.item() if source.startswith("f") else value
        exact = source.startswith("f") or np.array(value).astype(target).item() == value
        if float(ends.min) <= value <= float(ends.max) and exact:
            assert fit(stored(pixels), contract(target)).item() == np.array(value).astype(target).item()
        else:
            with pytest.raises(
                ImageError, match=f"it holds {source} values from .* not all values of {target}"
            ):
                fit(stored(pixels), contract(target))
    if source.startswith("f") and not target.startswith("f"):
        with pytest.raises(ImageError, match="not all values"):
            fit(stored(np.array([[[0.5]]], source)), contract(target))


def test_label_ids_keep_their_values():
    labels = Labels(((0,), (1,), (18,)))
    ids = np.array([[[0], [18], [1]]], np.uint16)
    assert fit(stored(ids), contract("uint8", labels=labels)).ravel().tolist() == [0, 18, 1]
    assert fit(stored(ids.astype(np.uint8)), contract("uint16", labels=labels)).ravel().tolist() == [0, 18, 1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_channels_of_any_type(values, dtype):
    kind = np.dtype(dtype).kind
    top = 1 if kind == "f" else np.iinfo(dtype).max
    pixels = (np.random.default_rng(0).random((5, 6, 4)) * top).astype(dtype)
    flat = [[int(v) if kind != "f" else float(v) for v in row] for row in pixels.reshape(-1, 4)]
    over = [[c * a / top + top - a for c in colour] for *colour, a in flat]
    close = (
        {"atol": 1e-3 if dtype == "float16" else 1e-6}
        if kind == "f"
        else {"atol": 1.01 if kind == "i" else 1}
    )

    def same(found, expected):
        assert found.dtype == dtype
        return np.allclose(found.reshape(-1, found.shape[2]).astype(np.float64), expected, rtol=1e-6, **close)

    rgba = stored(pixels, alpha=True)
    assert same(fit(rgba, contract(dtype, 3)), over)
    assert same(fit(rgba, contract(dtype, 1)), [[0.299 * r + 0.587 * g + 0.114 * b] for r, g, b in over])
    rgb, grey = stored(pixels[..., :3].copy()), stored(pixels[..., :1].copy())
    assert same(fit(rgb, contract(dtype, 1)), [[0.299 * r + 0.587 * g + 0.114 * b] for r, g, b, _ in flat])
    assert same(fit(rgb, contract(dtype, 4)), [[r, g, b, top] for r, g, b, _ in flat])
    assert same(fit(grey, contract(dtype, 3)), [[v, v, v] for v, *_ in flat])
    assert same(fit(grey, contract(dtype, 4)), [[v, v, v, top] for v, *_ in flat])


def test_added_channels_are_of_the_new_type():
    for source in (np.array([[[257]]], np.int32), np.array([[[257]]], np.uint16)):
        assert fit(stored(source), contract("uint8", 4)).tolist() == [[[1, 1, 1, 255]]]
    byte = np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], np.uint8)
    assert fit(stored(byte, alpha=True), contract("float32", 3)).tolist() == [
        [[255.0] * 3, [10.0, 20.0, 30.0]]
    ]
    per_channel = Contract("uint16", 3, (0.0, 255.0, 0.0), (255.0, 510.0, 2550.0))
    assert fit(stored(byte[:, :1, :1].copy()), per_channel).tolist() == [[[10, 265, 100]]]


def test_white_is_the_highest_value_of_the_declared_bits():
    pixels = np.array([[[0, 0, 0, 0], [100, 200, 300, 1023]]], np.uint16)
    made = fit(stored(pixels, bits=10, alpha=True), contract("uint16", 3))
    assert made.tolist() == [[[1023] * 3, [100, 200, 300]]]


@pytest.mark.parametrize(("have", "want"), [(4, 3), (4, 1), (2, 1), (5, 3), (3, 2), (1, 5), (7, 4)])
def test_bands_are_never_dropped(have, want):
    with pytest.raises(ImageError, match=f"it has {have} channels?, not {want}"):
        fit(stored(np.zeros((2, 2, have), np.uint8)), contract("uint8", want))


# ---- colour profiles


@pytest.fixture(scope="module")
def swapped():
    """A profile whose red and green are those of sRGB exchanged."""
    icc = bytearray(srgb_profile())
    places = {}
    for i in range(int.from_bytes(icc[128:132], "big")):
        places[bytes(icc[132 + 12 * i : 136 + 12 * i])] = 132 + 12 * i
    red, green = (places[name] for name in (b"rXYZ", b"gXYZ"))
    icc[red + 4 : red + 12], icc[green + 4 : green + 12] = (
        icc[green + 4 : green + 12],
        icc[red + 4 : red + 12],
    )
    return bytes(
        icc.replace(b"s\0R\0G\0B", b"o\0t\0h\0r")
        .replace(b"sRGB built-in", b"other one....")
        .replace(b"sRGB", b"othr")
    )


def test_a_profile_is_applied_and_only_when_asked(swapped, values):
    pixels = values("uint8", (6, 7, 3))
    made = fit(stored(pixels, icc=swapped), contract("uint8", 3, 0, 255, icc="srgb"))
    assert np.abs(made.astype(int) - pixels[..., [1, 0, 2]]).max() <= 1
    assert fit(stored(pixels, icc=swapped), contract("uint8", 3, 0, 255, icc="keep")) is pixels
    assert fit(stored(pixels, icc=srgb_profile()), contract("uint8", 3, 0, 255, icc="srgb")) is pixels
    assert fit(stored(pixels, icc=b"broken" * 40), contract("uint8", 3, 0, 255, icc="srgb")) is pixels
    rgba = np.concatenate([pixels, values("uint8", (6, 7, 1), 1)], 2)
    made = fit(stored(rgba, alpha=True, icc=swapped), contract("uint8", 4, 0, 255, icc="srgb"))
    assert np.abs(made.astype(int) - rgba[..., [1, 0, 2, 3]]).max() <= 1
    deep = values("uint16", (6, 7, 3))
    assert fit(stored(deep, icc=swapped), contract("uint16", 3, 0, 255, icc="srgb")) is deep


def test_the_profile_of_a_file_is_applied(tmp_path, swapped, values):
    pixels = values("uint8", (6, 7, 3))
    Image.fromarray(pixels).save(tmp_path / "x.png", icc_profile=swapped)
    made = fit(images.read_stored(tmp_path / "x.png"), contract("uint8", 3, 0, 255, icc="srgb"))
    assert np.abs(made.astype(int) - pixels[..., [1, 0, 2]]).max() <= 1
    assert np.array_equal(images.read(tmp_path / "x.png"), pixels)


def test_the_profile_follows_the_pixels(swapped, values):
    byte, deep = (values(dtype, (6, 7, 3)) for dtype in ("uint8", "uint16"))
    wanted = {icc: contract("uint8", 3, 0, 255, icc=icc) for icc in ("srgb", "keep")}
    assert metadata_of_fitted(stored(byte, icc=swapped), wanted["srgb"]).icc == srgb_profile()
    assert metadata_of_fitted(stored(byte, icc=swapped), wanted["keep"]).icc == swapped
    assert metadata_of_fitted(stored(deep, icc=swapped), wanted["srgb"]).icc == swapped  # was not converted
    assert metadata_of_fitted(stored(byte), wanted["srgb"]) == Metadata()


def test_a_profile_of_grey(values):
    grey = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    pixels = values("uint8", (6, 7, 1))
    assert fit(stored(pixels, icc=grey), contract("uint8", 1, 0, 255, icc="srgb")) is pixels
