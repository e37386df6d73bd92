import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from twofold.errors import UsageError
from twofold.formats import images
from twofold.formats.images import ImageError

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(height=6, width=9, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def pictures(channels):
    side = st.integers(1, 24)
    shapes = st.tuples(side, side, st.sampled_from(channels))
    return shapes.flatmap(lambda shape: hnp.arrays(np.uint8, shape))


# ---- finding


def test_find_is_recursive_natural_and_skips_what_is_hidden_or_no_image(tmp_path):
    for name in (
        "b/img10.PNG",
        "b/img2.jpg",
        "a.npy",
        ".hidden.png",
        ".git/x.png",
        "notes.txt",
        "c.tiff.bak",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [path.relative_to(tmp_path).as_posix() for path in images.find(tmp_path)]
    assert found == ["a.npy", "b/img2.jpg", "b/img10.PNG"]


def test_find_follows_links_but_not_in_circles(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.png").touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "loop").symlink_to(folder)
    (folder / "there").symlink_to(elsewhere)
    (folder / "self.png").symlink_to(folder / "self.png")
    assert images.find(folder) == [folder / "self.png", folder / "there" / "x.png"]
    with pytest.raises(images.ImageError, match=r"self.png: Too many levels of symbolic links"):
        images.read(folder / "self.png")


def test_find_says_what_is_wrong(tmp_path):
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.txt").touch()
    with pytest.raises(UsageError, match="does not exist"):
        images.find(tmp_path / "missing")
    with pytest.raises(UsageError, match="not a folder"):
        images.find(tmp_path / "a.txt")
    with pytest.raises(UsageError, match=r"holds no images \(2 .txt\)"):
        images.find(tmp_path)


def test_find_names_a_folder_it_may_not_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=f"cannot read the folder {tmp_path}: Permission denied"):
        images.find(tmp_path)


# ---- reading what is good


@quick
@given(image=pictures([1, 3, 4]), suffix=st.sampled_from([".png", ".npy"]))
def test_what_is_written_is_read_back(tmp_path, image, suffix):
    path = tmp_path / f"x{suffix}"
    images.write(image, path)
    assert np.array_equal(images.read(path), image)
    facts = images.inspect(path)
    assert (facts.height, facts.width, facts.channels) == image.shape
    assert facts.grey == (image.shape[2] == 1)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp", "tif", "avif"])
def test_every_format_is_read(tmp_path, suffix):
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)[..., None].repeat(3, axis=2)
    Image.fromarray(smooth).save(tmp_path / f"x.{suffix}", quality=95)
    image = images.read(tmp_path / f"x.{suffix}")
    assert image.shape == (40, 60, 3)
    assert np.abs(image.astype(int) - smooth).mean() < 2


UPRIGHT = {  # EXIF 2.3, orientation: where row 0 and column 0 of what is stored belong
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_exif_rotation(tmp_path, suffix, orientation):
    stored = np.kron(noise(2, 3), np.ones((16, 16, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{suffix}"
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {"lossless": True}
    Image.fromarray(stored).save(path, exif=exif, **options)
    expected = UPRIGHT[orientation](stored)
    image = images.read(path)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= (4 if suffix == "jpg" else 0)
    facts = images.inspect(path)
    assert (facts.height, facts.width) == expected.shape[:2]


def test_cmyk_palette_one_bit_and_grey_alpha(tmp_path):
    rgb = Image.new("RGB", (8, 8), (250, 20, 30))
    rgb.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    rgb.convert("P").save(tmp_path / "palette.png")
    Image.new("1", (8, 8), 1).save(tmp_path / "bit.png")
    Image.new("LA", (8, 8), (100, 51)).save(tmp_path / "la.png")
    red = images.read(tmp_path / "cmyk.jpg")
    assert red.shape == (8, 8, 3) and np.abs(red.astype(int) - (250, 20, 30)).max() < 4
    assert images.read(tmp_path / "palette.png").shape == (8, 8, 3)
    assert images.read(tmp_path / "bit.png").tolist() == [[[255]] * 8] * 8
    assert images.read(tmp_path / "la.png")[0, 0].tolist() == [100, 100, 100, 51]
    assert images.read(tmp_path / "la.png", 1)[0, 0].tolist() == [round(100 * 0.2 + 255 * 0.8)]
    facts = images.inspect(tmp_path / "la.png")
    assert (facts.channels, facts.grey) == (4, True)


@pytest.mark.parametrize("mode", ["P", "RGB", "L", "1"])
def test_a_transparent_colour_is_alpha(tmp_path, mode):
    picture = Image.new(mode, (2, 1), 0)
    transparent = {"P": bytes([0, 255]), "RGB": (0, 0, 0), "L": 0, "1": 0}[mode]
    picture.putpixel((1, 0), 1 if mode in "P1" else (9, 9, 9) if mode == "RGB" else 9)
    picture.save(tmp_path / "x.png", transparency=transparent)
    assert images.inspect(tmp_path / "x.png").channels == 4
    assert images.read(tmp_path / "x.png")[0, :, 3].tolist() == [0, 255]
    assert images.read(tmp_path / "x.png", 3)[0, 0].tolist() == [255, 255, 255]


@quick
@given(image=pictures([4]))
def test_alpha_is_laid_over_white(tmp_path, image):
    images.write(image, tmp_path / "x.png")
    expected = [
        [[round(c * int(a) / 255 + 255 - int(a)) for c in map(int, colour)] for *colour, a in row]
        for row in image
    ]
    assert np.array_equal(images.read(tmp_path / "x.png", 3), np.array(expected))


def test_channels_are_converted(tmp_path):
    images.write(noise(channels=1), tmp_path / "grey.png")
    images.write(noise(channels=3), tmp_path / "colour.png")
    grey, colour = images.read(tmp_path / "grey.png"), images.read(tmp_path / "colour.png")
    assert np.array_equal(images.read(tmp_path / "grey.png", 3), np.concatenate([grey] * 3, 2))
    assert np.array_equal(images.read(tmp_path / "colour.png", 4)[..., :3], colour)
    assert (images.read(tmp_path / "colour.png", 4)[..., 3] == 255).all()
    luma = images.read(tmp_path / "colour.png", 1)[..., 0]
    assert np.abs(luma - colour @ [0.299, 0.587, 0.114]).max() <= 1
    with pytest.raises(ImageError, match=r"colour.png: it has 3 channels, not 5; give files with 5"):
        images.read(tmp_path / "colour.png", 5)


@pytest.mark.parametrize(
    "options", [{"suffix": "webp", "lossless": True}, {"suffix": "png"}, {"suffix": "tif"}]
)
def test_of_an_animation_the_first_frame(tmp_path, options):
    suffix = options.pop("suffix")
    first, second = (Image.new("RGB", (5, 4), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    first.save(tmp_path / f"x.{suffix}", save_all=True, append_images=[second], **options)
    assert images.read(tmp_path / f"x.{suffix}", 3)[0, 0].tolist() == [255, 0, 0]
    assert images.inspect(tmp_path / f"x.{suffix}").frames == 2


def test_a_gif_under_another_name_is_read(tmp_path):
    Image.new("RGB", (5, 4), (255, 0, 0)).save(tmp_path / "x.gif")
    (tmp_path / "x.gif").rename(tmp_path / "x.jpg")
    assert images.read(tmp_path / "x.jpg")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_divided_by_257(tmp_path, suffix):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / f"x.{suffix}")
    expected = [round(value / 257) for value in range(65536)]
    assert images.read(tmp_path / f"x.{suffix}").ravel().tolist() == expected
    assert images.inspect(tmp_path / f"x.{suffix}") == (256, 256, 1, True, "uint16", 16, False, 1, ())
    assert np.array_equal(
        images.read(tmp_path / f"x.{suffix}", 3)[..., 1].ravel(), np.array(expected, dtype=np.uint8)
    )


def test_sixteen_bits_are_rotated_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.array([[0, 257, 514]], dtype=np.uint16)).save(tmp_path / "x.png", exif=exif)
    assert images.read(tmp_path / "x.png")[..., 0].tolist() == [[0], [1], [2]]


def test_integers_of_32_bits_within_16_are_read_others_refused(tmp_path):
    Image.fromarray(np.array([[0, 65535]], dtype=np.int32)).save(tmp_path / "x.tif")
    assert images.read(tmp_path / "x.tif").ravel().tolist() == [0, 255]
    for number in (65536, -1):
        Image.fromarray(np.array([[0, number]], dtype=np.int32)).save(tmp_path / "x.tif")
        with pytest.raises(ImageError, match=r"x.tif: it has values outside 0 to 65,535"):
            images.read(tmp_path / "x.tif")


def test_twelve_bits_fill_the_range(tmp_path):
    values = [0, 4095, 2048, 16]  # two pixels in three bytes
    data = b"".join(
        ((a << 12) | b).to_bytes(3, "big") for a, b in zip(values[::2], values[1::2], strict=True)
    )
    tags = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    (tmp_path / "x.tif").write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory)
    assert images.read(tmp_path / "x.tif").ravel().tolist() == [round(v * 255 / 4095) for v in values]


def test_npy_of_any_channel_count(tmp_path):
    many = noise(channels=7)
    np.save(tmp_path / "many.npy", many)
    np.save(tmp_path / "flat.npy", many[..., 0])
    assert np.array_equal(images.read(tmp_path / "many.npy"), many)
    assert np.array_equal(images.read(tmp_path / "many.npy", 7), many)
    assert images.inspect(tmp_path / "many.npy") == (9, 6, 7, False, "uint8", 8, False, 1, ())
    assert images.read(tmp_path / "flat.npy").shape == (6, 9, 1)
    assert images.read(tmp_path / "flat.npy", 3).shape == (6, 9, 3)
    with pytest.raises(ImageError, match=r"many.npy: it has 7 channels, not 3"):
        images.read(tmp_path / "many.npy", 3)


# ---- reading what is bad


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif", "avif", "npy"])
def test_a_truncated_file_is_named(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    if suffix == "npy":
        np.save(path, noise(64, 64))
    else:
        Image.fromarray(noise(64, 64)).save(path)
    whole = path.read_bytes()
    for part in (len(whole) * 2 // 3, 20, 0):
        path.write_bytes(whole[:part])
        with pytest.raises(ImageError) as caught:
            images.read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@quick
@given(
    data=st.binary(max_size=200),
    start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"II*\0", b"BM", b"\xff\xd8\xff"]),
)
@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_rubbish_is_an_image_error_and_nothing_else(tmp_path, suffix, start, data):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(start + data)
    for look in (images.read, images.inspect):
        try:
            look(path)
        except ImageError as error:
            assert str(path) in str(error)


def test_what_is_no_image_is_said_so(tmp_path):
    (tmp_path / "x.png").write_text("hello")
    with pytest.raises(ImageError, match=r"x.png: not an image"):
        images.read(tmp_path / "x.png")
    with pytest.raises(ImageError, match=r"gone.png: No such file"):
        images.read(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match=r"folder.png: Is a directory"):
        images.read(tmp_path / "folder.png")


def png_of(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_a_decompression_bomb_is_refused_from_its_header(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_of(20_000, 20_000))
    for look in (images.read, images.inspect):
        with pytest.raises(ImageError, match=r"bomb.png: 20,000 x 20,000 pixels are over the limit"):
            look(tmp_path / "bomb.png")
    (tmp_path / "large.png").write_bytes(png_of(12_000, 12_000))  # more than Pillow allows
    assert images.inspect(tmp_path / "large.png").width == 12_000


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_pillows_limit_of_pixels_does_not_matter_and_is_not_touched(
    tmp_path, monkeypatch, suffix, compression
):
    Image.fromarray(noise(32, 32)).save(tmp_path / f"x.{suffix}", save_all=True, compression=compression)
    # Pillow warns from its limit on and refuses twice as many pixels. Its WebP reader alone checks that by itself.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600 if suffix == "webp" else 100)
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        shapes = {image.shape for image in pool.map(images.read, [tmp_path / f"x.{suffix}"] * 20)}
        facts = set(pool.map(images.inspect, [tmp_path / f"x.{suffix}"] * 20))
    assert shapes == {(32, 32, 3)} and {fact[:3] for fact in facts} == {(32, 32, 3)}
    assert (600 if suffix == "webp" else 100) == Image.MAX_IMAGE_PIXELS
    assert list(warnings.filters) == before


def test_broken_exif_leaves_a_good_picture(tmp_path):
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as the command line does; pytest undoes it
    Image.fromarray(noise(16, 16)).save(
        tmp_path / "x.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 9
    )
    assert images.read(tmp_path / "x.jpg").shape == (16, 16, 3)
    assert images.inspect(tmp_path / "x.jpg").width == 16


def test_zero_sized_and_wrong_types_are_refused(tmp_path):
    path = tmp_path / "x.npy"
    for array, message in [
        (np.zeros((0, 5, 3), np.uint8), "the image has no pixels"),
        (np.zeros((5, 5, 0), np.uint8), "no channels"),
        (np.zeros((5, 5, 3), np.float32), "float32"),
        (np.zeros(5, np.uint8), "shape 5"),
        (np.zeros((1, 5, 5, 3), np.uint8), "1 x 5 x 5 x 3"),
        (np.array([[{}]]), "type object"),
    ]:
        np.save(path, array, allow_pickle=True)
        with pytest.raises(ImageError, match=f"x.npy: .*{message}"):
            images.read(path)
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(ImageError, match="float64 of shape 3"):
        images.read(path)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(ImageError, match=r"x.tif: it holds floating-point numbers"):
        images.read(tmp_path / "x.tif")


# ---- resizing, writing, ranges


def pillow_resized(image, height, width):
    planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC) for plane in image.T]
    return np.stack([np.array(plane) for plane in planes], axis=-1)


@pytest.mark.parametrize("shape", [(286, 286), (75, 100), (64, 1), (1, 64), (200, 200)])
@pytest.mark.parametrize("channels", [1, 3, 4, 7])
def test_resize_is_pillows_bicubic(channels, shape):
    image = images.resize(noise(12, 16, channels) // 2 + 64, 150, 200)  # as smooth as pictures are
    resized = images.resize(image, *shape)
    assert resized.shape == (*shape, channels) and resized.flags.c_contiguous
    error = np.abs(resized.astype(int) - pillow_resized(image.swapaxes(0, 1), *shape))
    assert error.max() <= 2 and (error > 1).mean() < 1e-4 and error.mean() < 0.01  # a level a pass


@quick
@given(image=pictures([1, 3, 5]), height=st.integers(1, 40), width=st.integers(1, 40))
def test_resize_of_anything_is_pillows_in_two_passes(image, height, width):
    # Pillow chooses which pass is first, and rounds and clamps in between.
    twin = pillow_resized(image.swapaxes(0, 1), image.shape[0], width)
    twin = pillow_resized(twin.swapaxes(0, 1), height, width)
    assert np.abs(images.resize(image, height, width).astype(int) - twin).max() <= 2


def test_write_by_suffix(tmp_path):
    image = np.kron(noise(2, 3), np.ones((16, 16, 1), np.uint8))
    for name in ("new/x.jpg", "x.JPEG", "x.webp"):
        images.write(image, tmp_path / name)
        assert np.abs(images.read(tmp_path / name).astype(int) - image).mean() < 4
    with Image.open(tmp_path / "new/x.jpg") as picture:
        assert [layer[1:3] for layer in picture.layer] == [(1, 1)] * 3  # 4:4:4
    images.write(noise(channels=6), tmp_path / "x.npy")
    assert np.array_equal(np.load(tmp_path / "x.npy"), noise(channels=6))


def test_write_refuses_what_the_format_cannot_hold(tmp_path):
    for name, channels, hint in [("x.jpg", 4, ".png"), ("x.png", 5, ".npy"), ("x.gif", 3, ".png")]:
        with pytest.raises(UsageError, match=hint):
            images.write(noise(channels=channels), tmp_path / name)
    with pytest.raises(ImageError, match=r"cannot write .*x.webp"):
        images.write(np.zeros((1, 20_000, 3), np.uint8), tmp_path / "x.webp")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    images.write(noise(seed=1), path)

    def full(self, file, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ImageError, match=r"cannot write .*x.png: No space left on device"):
        images.write(noise(seed=2), path)
    assert np.array_equal(images.read(path), noise(seed=1))
    assert list(tmp_path.iterdir()) == [path]


def test_ranges_round_trip_for_every_level():
    levels = torch.arange(256, dtype=torch.uint8)
    floats = images.to_float(levels)
    assert floats.dtype == torch.float32
    assert floats.tolist() == pytest.approx([u / 127.5 - 1 for u in range(256)], abs=1e-6)
    assert torch.equal(images.to_uint8(floats), levels)
    assert images.to_uint8(torch.tensor([-3.0, 3.0, 0.001])).tolist() == [0, 255, 128]


def test_suffixes_in_any_case():
    assert {Path("x.AVIF").suffix.lower(), ".tif", ".bmp"} <= images.SUFFIXES


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.npy"])
def test_an_empty_file_is_named_so(tmp_path, name):
    (tmp_path / name).touch()
    for read in (images.read_stored, images.inspect):
        with pytest.raises(ImageError, match=rf"{name}: the file is empty; remove it or replace it"):
            read(tmp_path / name)
