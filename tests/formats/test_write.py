"""Which format holds which pixels, and that what is written is what is read back, metadata included."""

import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms

from twofold.errors import UsageError
from twofold.formats import images
from twofold.formats.contract import DTYPES
from twofold.formats.metadata import Metadata, is_srgb, srgb_profile
from twofold.formats.write import HELD

LOSSY = (".jpg", ".jpeg", ".jfif", ".webp", ".avif")
COUNTS = (1, 2, 3, 4, 5, 13)


@pytest.mark.parametrize("suffix", sorted(HELD))
def test_a_format_holds_exactly_what_write_accepts_and_gives_it_back(tmp_path, values, suffix):
    held = 0
    for dtype in DTYPES:
        for channels in COUNTS:
            pixels, path = values(dtype, (12, 17, channels)), tmp_path / f"x{suffix}"
            if not images.holds(suffix, dtype, channels):
                with pytest.raises(
                    UsageError, match=f"{suffix} does not hold {dtype} with {channels} channel"
                ):
                    images.write(pixels, path)
                assert not path.exists()
                continue
            held += 1
            images.write(pixels, path)
            stored = images.read_stored(path)
            assert stored.facts == images.inspect(path)
            read = 3 if (suffix, channels) == (".webp", 1) else channels  # WebP has no grey
            assert stored.facts[:5] == (17, 12, read, read == 1, dtype)
            assert stored.pixels.dtype == dtype and stored.pixels.shape == (12, 17, read)
            assert suffix in LOSSY or np.array_equal(stored.pixels, pixels)
            path.unlink()
    assert held == sum(len(set(counts) & set(COUNTS)) for counts in HELD[suffix].values()) > 0


@pytest.mark.parametrize("suffix", sorted(HELD))
def test_arrays_in_any_order_and_read_only(tmp_path, values, suffix):
    for dtype, counts in HELD[suffix].items():
        channels = next(count for count in (3, 1) if count in counts)
        plain = values(dtype, (16, 24, channels))
        images.write(plain, tmp_path / f"plain{suffix}")
        turned = np.asfortranarray(plain[::-1])[::-1]
        turned.flags.writeable = False
        for number, same in enumerate((turned, plain.astype(plain.dtype.newbyteorder(">")))):
            images.write(same, tmp_path / f"{number}{suffix}")
            assert (tmp_path / f"{number}{suffix}").read_bytes() == (tmp_path / f"plain{suffix}").read_bytes()


def test_other_types_are_refused(tmp_path):
    for dtype in (np.int64, np.uint64, bool, np.complex64):
        with pytest.raises(UsageError, match=r"x.npy: no format holds .*; use uint8, uint16"):
            images.write(np.zeros((4, 4, 1), dtype), tmp_path / "x.npy")


def test_best_suffix():
    assert images.best_suffix("uint8", 3, ".jpg") == images.best_suffix("uint16", 4, ".TIF") == ".png"
    assert images.best_suffix("float32", 1, ".npy") == ".npy"
    assert images.best_suffix("float32", 1, ".png") == images.best_suffix("uint8", 5) == ".tif"
    assert images.best_suffix("int16", 1, ".TIFF") == ".tiff"


def about():
    exif = Image.Exif()
    exif[271], exif[272], exif[306], exif[315] = "Maker", "Model 1", "2024:01:02 03:04:05", "José"
    exif[0x8769] = {0x829A: 0.5, 0x9003: "2023:01:02 03:04:05", 0x8827: 400}
    exif[0x8825] = {1: "N", 2: (52.0, 30.0, 0.5)}
    return Metadata((300.0, 150.0), exif.tobytes(), srgb_profile())


def parsed(block):
    exif = Image.Exif()
    exif.load(block)
    exposure, place = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
    return (
        [exif.get(tag) for tag in (271, 272, 306, 315)],
        {tag: float(value) if tag == 0x829A else value for tag, value in exposure.items()},
        {tag: tuple(map(float, value)) if tag == 2 else value for tag, value in place.items()},
    )


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(s, "uint8") for s in (".jpg", ".png", ".webp", ".avif", ".tif")]
    + [(".png", "uint16"), (".tif", "uint16"), (".tif", "float32"), (".tif", "int16")],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_metadata_comes_back(tmp_path, values, suffix, dtype, channels):
    path, given = tmp_path / f"x{suffix}", about()
    pixels = values(dtype, (12, 17, channels))
    images.write(pixels, path, given)
    stored = images.read_stored(path)
    assert suffix in LOSSY or np.array_equal(stored.pixels, pixels)
    found = stored.metadata
    assert parsed(found.exif) == parsed(given.exif)
    if suffix not in (".webp", ".avif"):
        assert found.dpi == given.dpi
    colour = channels == 3 or suffix in (".webp",)
    assert found.icc == (given.icc if colour else b"")  # a grey picture cannot have a profile of colours


def test_the_exif_of_a_picture_is_kept_to_the_byte_and_its_orientation_reset(tmp_path):
    exif = Image.Exif()
    exif[271], exif[0x0112] = "Maker", 6
    Image.new("RGB", (8, 4)).save(tmp_path / "x.jpg", exif=exif.tobytes() + b"maker's note")
    stored = images.read_stored(tmp_path / "x.jpg")
    assert stored.pixels.shape == (8, 4, 3)
    exif[0x0112] = 1
    assert stored.metadata.exif == exif.tobytes() + b"maker's note"
    images.write(stored.pixels, tmp_path / "y.png", stored.metadata)
    again = images.read_stored(tmp_path / "y.png")
    assert again.metadata.exif == stored.metadata.exif and again.pixels.shape == (8, 4, 3)


def test_what_describes_the_storage_of_a_tiff_is_no_metadata(tmp_path):
    Image.new("RGB", (8, 4)).save(
        tmp_path / "x.tif", dpi=(600, 600), tiffinfo={270: "an XML text", 305: "a program"}
    )
    assert images.read_stored(tmp_path / "x.tif").metadata == Metadata((600.0, 600.0))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".tga", ".jp2", ".avif", ".jpg", ".npy"])
@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_is_put_back_where_the_format_holds_it(tmp_path, values, suffix, channels):
    path, pixels = tmp_path / f"x{suffix}", values("uint8", (12, 17, channels))
    alpha = np.linspace(0, 65535, 12 * 17).round().astype(np.uint16).reshape(12, 17, 1)
    images.write(pixels, path, alpha=alpha)
    stored = images.read_stored(path)
    if suffix in (".jpg", ".npy"):
        assert stored.facts.channels == channels and not stored.facts.alpha
        return
    assert stored.facts.alpha and stored.pixels.shape == (12, 17, 4)
    expected = (alpha / 257).round()
    assert np.abs(stored.pixels[..., 3:] - expected).max() <= (3 if suffix == ".avif" else 0)
    if suffix not in LOSSY:
        assert np.array_equal(stored.pixels[..., :3], np.broadcast_to(pixels, (12, 17, 3)))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_of_deep_pictures(tmp_path, values, dtype, channels):
    pixels, alpha = values(dtype, (5, 6, channels)), values("uint8", (5, 6, 1), 1)
    suffix = images.best_suffix(dtype, channels)
    images.write(pixels, tmp_path / f"x{suffix}", alpha=alpha)
    stored = images.read_stored(tmp_path / f"x{suffix}")
    expected = alpha * np.uint16(257) if dtype == "uint16" else (alpha / 255).astype(np.float32)
    assert stored.facts.alpha and np.array_equal(stored.pixels[..., 3:], expected)
    assert np.array_equal(stored.pixels[..., :3], np.broadcast_to(pixels, (5, 6, 3)))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_palette_is_written_and_its_indices_are_read(tmp_path, suffix):
    palette = ((10, 20, 30), (200, 0, 0), (0, 200, 0), (0, 0, 200))
    ids = np.arange(48, dtype=np.uint8).reshape(6, 8, 1) % 4
    images.write(ids, tmp_path / f"x{suffix}", palette=palette)
    stored = images.read_stored(tmp_path / f"x{suffix}", indices=True)
    assert np.array_equal(stored.pixels, ids) and stored.facts.palette[:4] == palette
    assert stored.facts.channels == 1 and not stored.facts.alpha
    colours = images.read_stored(tmp_path / f"x{suffix}")
    assert np.array_equal(colours.pixels, np.array(palette, np.uint8)[ids[..., 0]])
    images.write(ids, tmp_path / "x.pgm", palette=palette)
    assert np.array_equal(images.read_stored(tmp_path / "x.pgm").pixels, ids)


def test_quality(tmp_path, values):
    pixels = values("uint8", (64, 64, 3))
    for suffix in (".jpg", ".webp", ".avif"):
        sizes = []
        for quality in (20, None):
            images.write(pixels, tmp_path / f"x{suffix}", quality=quality)
            sizes.append((tmp_path / f"x{suffix}").stat().st_size)
        assert sizes[0] < sizes[1] / 2


def test_profiles_of_other_colours_are_not_written(tmp_path):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    images.write(np.zeros((4, 4, 3), np.uint8), tmp_path / "x.png", Metadata(icc=lab))
    assert images.read_stored(tmp_path / "x.png").metadata.icc == b""


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".tif"])
def test_broken_metadata_does_not_keep_a_picture_from_being_written(tmp_path, values, suffix):
    whole = about().exif
    for exif in (whole[:40], whole[:14], b"Exif\0\0rubbish", whole[:30] + bytes([255] * 90)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            images.write(values("uint8", (5, 6, 3)), tmp_path / f"x{suffix}", Metadata(exif=exif))
            assert images.read_stored(tmp_path / f"x{suffix}").pixels.shape == (5, 6, 3)


def test_the_profile_of_srgb_does_not_hold_the_time():
    assert srgb_profile()[24:36] == bytes(12) and is_srgb(srgb_profile())
