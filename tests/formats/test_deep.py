"""Pictures of over 8 bits outside TIFF keep every level, or are refused by name."""

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from twofold.formats import images
from twofold.formats.images import ImageError


def plain(pixels):
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def beside_three(pixels):
    """Grey with alpha as four channels."""
    return np.concatenate([pixels[..., :1]] * 3 + [pixels[..., 1:]], 2) if pixels.shape[2] == 2 else pixels


def check(path, expected, bits):
    stored = images.read_stored(path)
    expected = beside_three(expected)
    assert np.array_equal(stored.pixels, expected) and stored.pixels.dtype == expected.dtype
    assert stored.facts == images.inspect(path)
    height, width, channels = expected.shape
    grey = channels == 1 or np.array_equal(expected[..., 0], expected[..., 1])
    assert stored.facts == (width, height, channels, grey, expected.dtype, bits, channels == 4, 1, ())


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png(tmp_path, values, channels):
    pixels = values("uint16", (9, 14, channels))
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(plain(pixels)))
    check(tmp_path / "x.png", pixels, 16)
    expected = [round(value / 257) for value in beside_three(pixels).ravel().tolist()]
    assert images.read(tmp_path / "x.png").ravel().tolist() == expected


def test_a_transparent_colour_of_16_bits_is_alpha(tmp_path, values):
    pixels = values("uint16", (5, 6, 3))
    content = imagecodecs.png_encode(pixels)
    data = content.index(b"IDAT") - 4
    chunk = b"tRNS" + pixels[0, 0].astype(">u2").tobytes()
    chunk = struct.pack(">I", 6) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "x.png").write_bytes(content[:data] + chunk + content[data:])
    alpha = np.full((5, 6, 1), 65535, np.uint16)
    alpha[0, 0] = 0
    check(tmp_path / "x.png", np.concatenate([pixels, alpha], 2), 16)


def test_a_png_is_turned(tmp_path, values):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = values("uint16", (3, 5, 3))
    images.write(pixels, tmp_path / "x.png", images.Metadata(exif=exif.tobytes()))
    assert np.array_equal(images.read_stored(tmp_path / "x.png").pixels, np.rot90(pixels, -1))
    assert images.inspect(tmp_path / "x.png")[:2] == (3, 5)


@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
@pytest.mark.parametrize("bits", [8, 9, 12, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_jpeg_2000(tmp_path, values, suffix, bits, channels):
    pixels = values("uint16", (9, 14, channels)) >> (16 - bits)
    pixels = pixels.astype(np.uint8 if bits == 8 else np.uint16)
    content = imagecodecs.jpeg2k_encode(
        plain(pixels), level=0, reversible=True, codecformat=suffix, bitspersample=bits
    )
    (tmp_path / f"x.{suffix}").write_bytes(content)
    check(tmp_path / f"x.{suffix}", pixels, bits)


def test_the_size_in_the_codestream_counts(tmp_path, values):
    content = imagecodecs.jpeg2k_encode(values("uint16", (9, 14, 3)), level=0, codecformat="jp2")
    size = content.index(b"\xff\x4f\xff\x51") + 8
    (tmp_path / "x.jp2").write_bytes(
        content[:size] + struct.pack(">II", 60_000, 60_000) + content[size + 8 :]
    )
    with pytest.raises(ImageError, match=r"x.jp2: 60,000 x 60,000 pixels are over the limit"):
        images.inspect(tmp_path / "x.jp2")


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_signed_jpeg_2000_is_refused(tmp_path, values, dtype):
    pixels = values(dtype, (9, 14, 3))
    (tmp_path / "x.jp2").write_bytes(imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True))
    for look in (images.inspect, images.read_stored):
        with pytest.raises(ImageError, match=r"x.jp2: its channels are signed, .*; convert it to TIFF"):
            look(tmp_path / "x.jp2")


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_avif(tmp_path, values, bits, channels):
    pixels = (values("uint16", (16, 24, channels)) >> (16 - bits)).astype(
        np.uint8 if bits == 8 else np.uint16
    )
    layout = "400" if channels == 1 else "444"
    content = imagecodecs.avif_encode(plain(pixels), level=100, bitspersample=bits, pixelformat=layout)
    (tmp_path / "x.avif").write_bytes(content)
    check(tmp_path / "x.avif", pixels, bits)


@pytest.mark.parametrize("most", [300, 4095, 65535])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("text", [False, True])
def test_pnm(tmp_path, most, channels, text):
    pixels = np.random.default_rng(0).integers(0, most, (9, 14, channels), endpoint=True).astype(np.uint16)
    magic = {(1, False): 5, (3, False): 6, (1, True): 2, (3, True): 3}[channels, text]
    header = b"P%d # a comment\n14\n# another\n9 %d\n" % (magic, most)
    data = (
        b" ".join(b"%d" % value for value in pixels.ravel().tolist())
        if text
        else pixels.astype(">u2").tobytes()
    )
    (tmp_path / "x.pnm").write_bytes(header + data)
    check(tmp_path / "x.pnm", pixels, most.bit_length())
    (tmp_path / "x.pnm").write_bytes(header + data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"x.pnm: damaged"):
        images.read_stored(tmp_path / "x.pnm")


def test_pnm_of_few_bits_fills_the_range(tmp_path):
    (tmp_path / "x.pgm").write_bytes(b"P5 3 1 15\n" + bytes([0, 7, 15]))
    assert images.read_stored(tmp_path / "x.pgm").pixels.ravel().tolist() == [0, 119, 255]
    (tmp_path / "x.pbm").write_bytes(b"P4 8 1\n" + bytes([0b10101111]))
    assert images.read_stored(tmp_path / "x.pbm").pixels.ravel().tolist() == [0, 255, 0, 255, 0, 0, 0, 0]


@pytest.mark.parametrize("suffix", ["tga", "gif", "jfif", "jp2", "ppm", "avif", "bmp", "webp"])
def test_every_suffix_of_pictures_is_read(tmp_path, suffix):
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)[..., None].repeat(3, axis=2)
    Image.fromarray(smooth).save(tmp_path / f"x.{suffix}", "JPEG" if suffix == "jfif" else None)
    stored = images.read_stored(tmp_path / f"x.{suffix}")
    assert stored.pixels.shape == (40, 60, 3) and np.abs(stored.pixels.astype(int) - smooth).mean() < 3
    assert stored.facts == images.inspect(tmp_path / f"x.{suffix}")


def test_what_is_not_read_is_named_with_the_way_to_convert_it(tmp_path, values):
    deep, path = values("uint16", (16, 16, 3)), tmp_path / "x.jpg"
    for content, message in [
        (b"\0\0\0\x18ftypheic" + bytes(64), "it is HEIC; convert it: magick"),
        (imagecodecs.jpegxl_encode(deep), "it is JPEG XL; convert it: djxl"),
        (
            imagecodecs.jpeg8_encode(deep >> 4, bitspersample=12),
            "it is a JPEG that is damaged or has over 8 bits",
        ),
        (imagecodecs.ljpeg_encode(plain(deep[..., :1])), "it is a JPEG that is damaged or has over 8 bits"),
        (
            imagecodecs.jpeg2k_encode(values("uint8", (16, 16, 5)), level=0),
            "it is JPEG 2000, damaged or of over 4 channels",
        ),
        (b"\x76\x2f\x31\x01" + bytes(64), "it is a high dynamic range picture"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "it is a high dynamic range picture"),
    ]:
        path.write_bytes(content)
        for look in (images.read_stored, images.inspect):
            with pytest.raises(ImageError, match=f"x.jpg: {message}"):
                look(path)
