"""`Translator.folder`: files of any type in and out, one result for each way in, and what travels with the pixels."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from twofold.errors import UsageError
from twofold.formats import images
from twofold.formats.contract import Contract, Labels

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pictures():
    """A file of each kind in ./in, and the contract of its domain."""
    Path("in").mkdir()
    colour, deep = RNG.integers(0, 256, (40, 52, 3), np.uint8), RNG.integers(0, 4096, (40, 52, 1), np.uint16)
    six = RNG.integers(0, 4096, (40, 52, 6), np.uint16)
    contents = {
        "colour.png": (colour, Contract()),
        "colour.bmp": (colour, Contract()),
        "grey.png": (colour[..., :1], Contract(channels=1)),
        "deep.png": (deep, Contract("uint16", 1, (0.0,), (4095.0,), "bits")),
        "rgb16.png": (six[..., :3] * 16, Contract("uint16", 3, high=(65535.0,))),
        "ct.tif": (deep.astype(np.int16) - 1024, Contract("int16", 1, (-1024.0,), (3071.0,), "percentiles")),
        "bands.tif": (six, Contract("uint16", 6, (0.0,), (4095.0,), "bits")),
        "float.tif": (deep / np.float32(7), Contract("float32", 1, (0.0,), (585.0,), "percentiles")),
        "bands.npy": (six, Contract("uint16", 6, (0.0,), (4095.0,), "bits")),
        "double.npz": (deep / 7, Contract("float64", 1, (0.0,), (585.0,), "percentiles")),
    }
    for name, (pixels, _) in contents.items():
        images.write(pixels, Path("in", name))
    return contents


def stored(path):
    return images.read_stored(path).pixels


@pytest.mark.parametrize(
    "name", ["colour.png", "grey.png", "deep.png", "rgb16.png", "ct.tif", "bands.tif", "bands.npy"]
)
@pytest.mark.parametrize("identity", [True, False])
def test_every_way_in_gives_the_same_pixels(by_contract, name, identity):
    """Byte for byte: the file through the folder, the path, the array, the tensor, floats, and PIL where it can."""
    pixels, contract = pictures()[name]
    made = by_contract(contract, identity=identity, resize="crop" if identity else "shortest")
    results = made.folder(Path("in", name), "out")
    assert not results.problems
    result = stored(results.written[0])
    assert result.dtype == contract.dtype and result.shape == pixels.shape
    if identity:
        assert np.array_equal(result, pixels)
    assert np.array_equal(made.array(Path("in", name)), result)
    assert np.array_equal(made(pixels), result)
    planes = torch.from_numpy(pixels).permute(2, 0, 1)
    assert np.array_equal(made(planes).permute(1, 2, 0), result)
    assert np.array_equal(made(planes[None])[0].permute(1, 2, 0), result)
    assert np.array_equal(made(pixels.astype(np.float32), values="contract"), result.astype(np.float32))
    low, high = contract.low[0], contract.high[0]
    ones = made(((pixels - low) / (high - low)).astype(np.float32), values="unit")
    assert np.array_equal(np.rint(ones.astype(float) * (high - low) + low), result)
    if (contract.dtype, contract.channels) in (("uint8", 1), ("uint8", 3), ("uint16", 1)):
        with Image.open(Path("in", name)) as picture:
            assert np.array_equal(np.atleast_3d(np.array(made(picture))), result)
        assert np.array_equal(np.atleast_3d(np.array(made(Path("in", name)))), result)


def test_pil_images_of_every_mode(by_contract):
    """As their files: a PNG or TIFF of the mode through the folder."""
    made = by_contract(Contract(), resize="shortest")
    base = Image.fromarray(RNG.integers(0, 256, (20, 24, 4), np.uint8))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"):
        picture = (base if mode in ("LA", "RGBA") else base.convert("RGB")).convert(mode)
        path = Path("in", f"{mode}.{'tif' if mode == 'CMYK' else 'png'}")
        path.parent.mkdir(exist_ok=True)
        picture.save(path)
        (written,) = made.folder(path, "out").written
        assert np.array_equal(np.array(made(picture)), stored(written)), mode
        assert stored(written).shape[2] == (4 if mode in ("LA", "RGBA") else 3)
    deep = by_contract(Contract("uint16", 1, high=(65535.0,)), resize="shortest")
    grey = Image.fromarray(RNG.integers(0, 2**16, (20, 24), np.uint16))
    grey.save("in/deep.png")
    assert np.array_equal(np.array(deep(grey)), stored(deep.folder("in/deep.png", "out").written[0])[..., 0])


def test_results_are_png_else_as_the_source_else_tif(by_contract):
    contents = pictures()
    for name, expected in {
        "colour.bmp": "colour.png",
        "rgb16.png": "rgb16.png",
        "ct.tif": "ct.tif",
        "bands.npy": "bands.npy",
        "double.npz": "double.npz",
    }.items():
        made = by_contract(contents[name][1], identity=True)
        assert made.folder(Path("in", name), f"of {name} files").written == [
            Path(f"of {name} files", expected)
        ]
    made = by_contract(contents["deep.png"][1], contents["ct.tif"][1], identity=True)
    (written,) = made.folder("in/deep.png", "units").written
    assert written == Path("units/deep.tif") and tifffile.imread(written).dtype == np.int16
    expected = np.rint(contents["deep.png"][0] / 4095 * 4095 - 1024)[..., 0]
    assert np.abs(tifffile.imread(written) - expected).max() == 0


def test_formats_and_qualities(by_contract):
    pictures()
    made = by_contract(Contract(), identity=True)
    assert made.folder("in/colour.bmp", "out", format="same").written == [Path("out/colour.bmp")]
    for name, result in (("once.gif", "once.png"), ("slide.svs", "slide.tif"), ("line.pbm", "line.png")):
        kind = {".svs": "TIFF", ".pbm": "PPM"}.get(Path(name).suffix)
        Image.new("1" if kind == "PPM" else "RGB", (20, 20)).save(name, kind)
        assert made.folder(name, "out", format="same").written == [Path("out", result)]
    for name in ("jpg", "webp", "avif"):
        sizes = []
        for quality in (20, 95):
            (path,) = made.folder("in/colour.png", f"out{quality}", format=name, quality=quality).written
            assert path.suffix == f".{name}"
            sizes.append(path.stat().st_size)
        assert sizes[0] < sizes[1]


def test_what_exists_is_skipped(by_contract):
    pictures()
    made = by_contract(Contract(), identity=True)
    files = [Path("in/colour.png"), Path("in/grey.png"), Path("in/deep.png")]
    Path("out").mkdir()
    Path("out/grey.png").write_text("mine")
    results = made.folder(files, "out", skip_existing=True)
    assert results.written == [Path("out/colour.png"), Path("out/deep.png")]
    assert results.existing == [Path("out/grey.png")] and Path("out/grey.png").read_text() == "mine"
    assert made.folder(files, "out", skip_existing=True).written == []


@pytest.mark.parametrize(
    ("name", "out", "options", "message"),
    [
        (
            "ct.tif",
            "out",
            {"format": "png"},
            r"out/ct.png: \.png does not hold int16 values; use .npy or .tif$",
        ),
        ("ct.tif", "x.jpg", {}, r"x.jpg: \.jpg does not hold int16 values; use .npy or .tif$"),
        ("bands.npy", "out", {"format": "png"}, r"\.png does not hold 6 channels; use .npy or .tif$"),
        ("rgb16.png", "out", {"format": "jpg"}, r"\.jpg does not hold uint16 values; use .png or .npy$"),
        ("colour.png", "out", {"format": "pgm"}, r"\.pgm does not hold 3 channels; use .png or .npy$"),
        ("colour.png", "x.heic", {}, r"cannot write x.heic: end its name with .png, .npy, .tif, .jpg"),
        ("colour.png", "out", {"format": "xyz"}, r"cannot write out/colour.xyz: end its name with"),
        ("colour.png", "x.jpg", {"format": "png"}, "name two formats"),
        ("colour.png", "out", {"quality": 80}, "--quality is for jpg, webp and avif, not for .png"),
        ("colour.png", "out", {"quality": 101, "format": "jpg"}, "must be 1 to 100, not 101"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(
    by_contract, monkeypatch, name, out, options, message
):
    made = by_contract(pictures()[name][1])
    monkeypatch.setattr(made, "forward", pytest.fail)
    with pytest.raises(UsageError, match=message) as caught:
        made.folder(Path("in", name), out, **options)
    assert "\n" not in str(caught.value) and not Path("out").exists()


def test_files_that_do_not_fit_are_named_and_the_others_done(by_contract, ct):
    pictures()
    lines = []
    made = by_contract(ct, identity=True)
    results = made.folder("in", "out", notify=lines.append)
    problems = {path.name: problem for path, problem in results.problems.items()}
    assert "6 channels, not 1" in problems["bands.npy"] and "float" in problems["float.tif"]
    assert Path("out/ct.tif") in results.written
    assert sum(line.startswith("skipped in/") for line in lines) == len(problems)
    assert ["are clipped" in line for line in lines if not line.startswith("skipped in/")] == [True]


def test_a_small_working_size_is_noted_once(by_contract):
    Path("in").mkdir()
    for name, side in (("a", 70), ("b", 100), ("c", 300)):
        images.write(np.zeros((side, 2 * side, 3), np.uint8), Path("in", f"{name}.png"))
    made, lines = by_contract(Contract(), resize="shortest"), []
    made.folder("in", "out", notify=lines.append)
    assert lines == [
        "in/b.png: the network sees 72×36 of 200×100 pixels, as in training, and its output is enlarged 2.8 times; "
        "--at native uses every pixel"
    ]
    for at in ("native", 64):
        made.folder("in", "out", notify=pytest.fail, at=at)


def test_frames_and_values_that_are_not_used_are_noted_once(by_contract, ct):
    Path("in").mkdir()
    for name, top in (("a", 3000), ("b", 3071), ("c", 9000), ("d", 9000)):
        stack = np.stack([np.eye(40, dtype=np.int16) * top] * 2)
        tifffile.imwrite(f"in/{name}.tif", stack, photometric="minisblack")
    made, lines = by_contract(ct), []
    made.folder("in", "out", notify=lines.append, at="native")
    assert lines == [
        "in/a.tif: it has 2 frames: only the first is used, as in every such file",
        "in/c.tif: 2 % of its values are outside those of the model (int16, 1 channel, -1,024…3,071) and are clipped",
    ]


@pytest.mark.parametrize("format", ["npy", "npz"])
def test_a_grey_array_has_two_axes(by_contract, ct, format):
    pixels = RNG.integers(-1000, 3000, (40, 52), np.int16)
    np.save("x.npy", pixels)
    (written,) = by_contract(ct, identity=True).folder("x.npy", "out", format=format).written
    result = np.load(written)
    assert np.array_equal(result["arr_0"] if format == "npz" else result, pixels)


def test_arrays_with_channels_first(by_contract, bands):
    pixels = RNG.integers(0, 4096, (6, 40, 52), np.uint16)
    np.save("x.npy", pixels)
    made = by_contract(bands, identity=True, layout="chw")
    assert np.array_equal(np.load(made.folder("x.npy", "out").written[0]), pixels)
    assert np.array_equal(made.array("x.npy"), pixels.transpose(1, 2, 0))
    (tiff,) = made.folder("x.npy", "out", format="tif").written
    assert np.array_equal(stored(tiff), pixels.transpose(1, 2, 0))
    assert '"layout": "chw"' in made.header.to_json()


# ---- what travels with the pixels


def profile(name="sRGB"):
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


@pytest.mark.parametrize("format", ["png", "jpg", "tif"])
def test_resolution_and_exif_are_kept(by_contract, format):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker", 6
    picture = Image.fromarray(RNG.integers(0, 256, (20, 24, 3), np.uint8))
    picture.save("x.jpg", dpi=(600, 600), exif=exif)
    made = by_contract(Contract(), identity=True)
    (path,) = made.folder("x.jpg", "out", format=format).written
    with Image.open(path) as result:
        assert result.size == (20, 24)  # upright
        assert result.info["dpi"] == pytest.approx((600, 600), rel=1e-3)
        assert result.getexif()[0x010F] == "maker" and result.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("icc", ["srgb", "keep"])
def test_profiles(by_contract, icc):
    wide = Path(__file__).parent / "wide.icc"
    kept = wide.read_bytes() if wide.exists() else profile()
    picture = Image.fromarray(RNG.integers(0, 256, (20, 24, 3), np.uint8))
    picture.save("with.png", icc_profile=kept)
    picture.save("without.png")
    made = by_contract(Contract(icc=icc), identity=True)
    for name in ("with", "without"):
        (path,) = made.folder(f"{name}.png", "out").written
        with Image.open(path) as result:
            found = result.info.get("icc_profile")
            assert (found is not None) == (name == "with")
            if found:
                assert "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(found)))
    grey = by_contract(Contract(icc=icc), Contract(channels=1, icc=icc), identity=True)
    with Image.open(grey.folder("with.png", "grey").written[0]) as result:
        assert "icc_profile" not in result.info


def test_alpha_is_put_back(by_contract):
    pixels = RNG.integers(0, 256, (40, 52, 4), np.uint8)
    images.write(pixels, Path("x.png"))
    made = by_contract(Contract(), resize="shortest", load_size=16)
    for format, channels in (("png", 4), ("tif", 4), ("webp", 4), ("jpg", 3), ("npy", 3)):
        (path,) = made.folder("x.png", "out", format=format).written
        result = stored(path)
        assert result.shape[2] == channels, format
        if format in ("png", "tif"):
            assert np.array_equal(result[..., 3], pixels[..., 3])
            assert np.array_equal(
                result[..., :3], np.load("out/x.npy") if Path("out/x.npy").exists() else result[..., :3]
            )
    assert np.array_equal(np.array(made(Path("x.png")))[..., 3], pixels[..., 3])
    assert np.array_equal(np.array(made(Path("x.png")))[..., :3], np.load("out/x.npy"))
    deep = by_contract(Contract(), Contract("uint16", 3, high=(65535.0,)), identity=True)
    result = stored(deep.folder("x.png", "deep").written[0])
    assert result.dtype == np.uint16 and np.array_equal(result[..., 3], pixels[..., 3] * np.uint16(257))


def test_what_is_transparent_does_not_bleed(by_contract):
    """A red square on transparent black: the result knows red and white alone, no dark edge."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[16:48, 16:48] = (255, 0, 0, 255)
    images.write(pixels, Path("x.png"))
    made = by_contract(Contract(), identity=True, resize="shortest", load_size=32)
    result = made.array("x.png")
    assert result[..., 0].min() >= 250  # red or white everywhere


def test_label_maps_keep_their_palette(by_contract):
    palette = ((0, 0, 0), (9, 9, 9), (200, 10, 0))
    labels = Labels(((0,), (1,), (2,)), palette=palette)
    ids = Contract("uint8", 1, found="labels", labels=labels)
    pixels = RNG.integers(0, 3, (40, 52), np.uint8)
    picture = Image.fromarray(pixels)
    picture.putpalette([part for colour in palette for part in colour])
    picture.save("x.png")
    made = by_contract(ids, identity=True)
    (path,) = made.folder("x.png", "out").written
    with Image.open(path) as result:
        assert result.mode == "P" and np.array_equal(np.array(result), pixels)
        assert result.getpalette()[:9] == [part for colour in palette for part in colour]
