"""TIFF files of every depth, layout and compression, written by tifffile or Pillow."""

import logging

import numpy as np
import pytest
import tifffile
from PIL import Image

from twofold.formats import facts, images
from twofold.formats.images import ImageError

DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_every_layout_is_read_as_it_was_given(tmp_path, values, window, dtype, channels):
    path, rng = tmp_path / "x.tif", np.random.default_rng(channels)
    compressions = [None, "lzw", "deflate", "zstd", "packbits", "lzma"]
    for number, compression in enumerate(compressions):
        pixels = values(dtype, (35, 50, channels), number)
        planar, tile = rng.random() < 0.5, (16, 32) if rng.random() < 0.5 else None
        tifffile.imwrite(
            path,
            pixels[..., 0] if channels == 1 else np.moveaxis(pixels, 2, 0) if planar else pixels,
            photometric="minisblack",
            planarconfig=None if channels == 1 else "separate" if planar else "contig",
            compression=compression,
            predictor=compression in ("lzw", "deflate", "zstd") and dtype[0] != "f" and rng.random() < 0.5,
            tile=tile,
            rowsperstrip=None if tile else 8,
            bigtiff=rng.random() < 0.5,
            byteorder="<>"[number % 2],
        )
        stored = images.read_stored(path)
        assert stored.pixels.dtype == dtype and np.array_equal(stored.pixels, pixels)
        assert (
            stored.facts
            == images.inspect(path)
            == (50, 35, channels, channels == 1, dtype, stored.facts.bits, *[False, 1, ()])
        )
        assert stored.facts.bits == np.dtype(dtype).itemsize * 8
        assert np.array_equal(window(path, slice(5, 26), slice(20, 37)), pixels[5:26, 20:37])


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("channels", [1, 3])
def test_packed_bits(tmp_path, bits, channels):
    pixels = np.random.default_rng(0).integers(0, 2**bits, (9, 14, channels), dtype=np.uint16)
    plain = pixels[..., 0] if channels == 1 else pixels
    tifffile.imwrite(
        tmp_path / "x.tif", plain, photometric="rgb" if channels == 3 else "minisblack", bitspersample=bits
    )
    stored = images.read_stored(tmp_path / "x.tif")
    assert np.array_equal(stored.pixels, pixels) and (stored.facts.dtype, stored.facts.bits) == (
        "uint16",
        bits,
    )
    most = 2**bits - 1
    assert images.read(tmp_path / "x.tif").ravel().tolist() == [
        round(v * 255 / most) for v in pixels.ravel().tolist()
    ]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_fill_the_range(tmp_path, bits):
    pixels = np.random.default_rng(0).integers(0, 2**bits, (9, 16), dtype=np.uint8)
    plain = pixels.astype(bool) if bits == 1 else pixels
    tifffile.imwrite(tmp_path / "x.tif", plain, photometric="minisblack", bitspersample=bits)
    stored = images.read_stored(tmp_path / "x.tif")
    assert np.array_equal(stored.pixels[..., 0], pixels * (255 // (2**bits - 1)))
    assert stored.facts == images.inspect(tmp_path / "x.tif") == (16, 9, 1, True, "uint8", 8, False, 1, ())


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32"])
def test_min_is_white_is_inverted(tmp_path, values, window, dtype):
    pixels, limits = values(dtype, (7, 9)), np.iinfo(dtype)
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="miniswhite")
    expected = limits.max - (pixels.astype(np.int64) - limits.min)
    assert np.array_equal(images.read_stored(tmp_path / "x.tif").pixels[..., 0], expected)
    assert np.array_equal(window(tmp_path / "x.tif", slice(1, 4), slice(2, 6))[..., 0], expected[1:4, 2:6])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha", "unspecified"])
def test_only_what_is_called_alpha_is_alpha(tmp_path, dtype, colours, kind):
    top = 1.0 if dtype == "float32" else np.iinfo(dtype).max
    straight = np.linspace(0.1, 0.9, 60 * colours).reshape(6, 10, colours) * top
    alpha = np.linspace(0, 1, 60).reshape(6, 10, 1) * top
    given = np.concatenate([straight * (alpha / top if kind == "assocalpha" else 1), alpha], axis=2)
    given = (given if dtype == "float32" else given.round()).astype(dtype)
    how = {"photometric": "rgb" if colours == 3 else "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "x.tif", given, extrasamples=[kind], **how)
    stored = images.read_stored(tmp_path / "x.tif")
    assert stored.facts == images.inspect(tmp_path / "x.tif")
    assert stored.facts.alpha == (kind != "unspecified")
    if kind == "unspecified":
        assert np.array_equal(stored.pixels, given)
        with pytest.raises(ImageError, match=rf"x.tif: it has {colours + 1} channels, not 1"):
            images.read(tmp_path / "x.tif", 1)
        return
    assert stored.pixels.shape == (6, 10, 4) and stored.facts.grey == (colours == 1)
    assert np.array_equal(stored.pixels[..., 3], given[..., -1])
    seen = alpha[..., 0] > 0.2 * top  # premultiplied values keep few levels where they are nearly transparent
    error = np.abs(stored.pixels[..., :3] - np.broadcast_to(straight, (6, 10, 3)))[seen]
    assert error.max() <= (1e-6 if dtype == "float32" else 4)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "P", "PA", "1", "LA", "RGBA", "L", "RGB"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_pillows_pictures_are_as_pillow_reads_them(tmp_path, values, mode, compression):
    picture = Image.fromarray(values("uint8", (4, 5, 3)).repeat(8, 0).repeat(8, 1))
    picture = (
        picture.convert("P").convert("PA")
        if mode == "PA"
        else picture.convert("RGB" if mode == "LAB" else mode)
    )
    if mode == "LAB":
        from PIL import ImageCms

        profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
        picture = ImageCms.profileToProfile(picture, *profiles, outputMode="LAB")
    try:
        picture.save(tmp_path / "x.tif", compression=compression)
    except (OSError, ValueError):
        pytest.skip("Pillow does not write it")
    with Image.open(tmp_path / "x.tif") as again:
        alpha, grey = mode in ("PA", "LA", "RGBA"), mode in ("1", "L", "LA")
        twin = np.atleast_3d(np.array(again.convert("RGBA" if alpha else "L" if grey else "RGB")))
    stored = images.read_stored(tmp_path / "x.tif")
    assert np.array_equal(stored.pixels, twin)
    assert stored.facts == images.inspect(tmp_path / "x.tif")
    assert (stored.facts.grey, stored.facts.alpha, bool(stored.facts.palette)) == (
        grey,
        alpha,
        mode in ("P", "PA"),
    )


@pytest.mark.parametrize("tile", [(32, 48), None])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("colours", ["rgb", "ycbcr", "minisblack", "miniswhite"])
def test_jpeg_parts_are_read_by_windows_as_pillow_reads_the_whole(
    tmp_path, window, colours, subsampling, tile
):
    path, small = tmp_path / "x.tif", np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    pixels = np.asarray(Image.fromarray(small).resize((150, 100)))
    grey = colours.startswith("minis")
    layout = {"tile": tile} if tile else {"rowsperstrip": 48}
    tifffile.imwrite(
        path,
        pixels[..., 0] if grey else pixels,
        photometric="rgb" if colours == "ycbcr" else colours,
        subsampling=None if grey else subsampling,
        compression="jpeg",
        compressionargs={"outcolorspace": "rgb"} if colours == "rgb" else {},
        **layout,
    )
    with Image.open(path) as picture:
        twin = np.atleast_3d(np.array(picture))
    stored = images.read_stored(path)
    assert np.array_equal(stored.pixels, twin) and stored.facts == images.inspect(path)
    assert np.abs(stored.pixels.astype(int) - (pixels[..., :1] if grey else pixels)).mean() < 12 or grey
    for rows, columns in (
        (slice(0, 100), slice(0, 150)),
        (slice(31, 77), slice(47, 97)),
        (slice(99, 100), slice(149, 150)),
    ):
        assert np.array_equal(window(path, rows, columns), twin[rows, columns])


def test_jpeg_parts_with_common_tables(tmp_path, window, values):
    path = tmp_path / "x.tif"
    Image.fromarray(values("uint8", (70, 90, 3))).save(path, compression="jpeg", quality=90)
    with tifffile.TiffFile(path) as file, Image.open(path) as picture:
        assert file.pages.first.jpegtables
        twin = np.array(picture)
    assert np.array_equal(images.read_stored(path).pixels, twin)
    assert np.array_equal(window(path, slice(20, 69), slice(3, 60)), twin[20:69, 3:60])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_files_are_turned(tmp_path, values, window, orientation):
    pixels = values("uint16", (4, 7, 5))
    tifffile.imwrite(
        tmp_path / "x.tif",
        pixels,
        photometric="minisblack",
        planarconfig="contig",
        extratags=[(274, "H", 1, orientation, True)],
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    bands = []
    for band in range(5):
        Image.fromarray(pixels[..., band]).save(tmp_path / "band.png", exif=exif)
        bands.append(images.read_stored(tmp_path / "band.png").pixels)
    stored = images.read_stored(tmp_path / "x.tif")
    assert np.array_equal(stored.pixels, np.concatenate(bands, 2))
    assert (stored.facts.height, stored.facts.width) == stored.pixels.shape[:2]
    assert images.inspect(tmp_path / "x.tif") == stored.facts
    assert (window(tmp_path / "x.tif", slice(1, 3), slice(2, 4)) is None) == (orientation != 1)


def test_of_a_stack_the_first_page(tmp_path, values):
    pages = values("uint8", (7, 9, 14))
    tifffile.imwrite(tmp_path / "x.tif", pages, photometric="minisblack")
    stored = images.read_stored(tmp_path / "x.tif")
    assert np.array_equal(stored.pixels[..., 0], pages[0]) and stored.facts.frames == 7
    tifffile.imwrite(tmp_path / "x.tif", pages, photometric="minisblack", planarconfig="separate")
    stored = images.read_stored(tmp_path / "x.tif")
    assert np.array_equal(stored.pixels, np.moveaxis(pages, 0, 2)) and stored.facts.frames == 1


def test_bands_of_jpeg_are_read_plane_by_plane(tmp_path):
    smooth = (
        np.add.outer(np.arange(40), np.arange(48)).astype(np.uint8)
        + np.arange(5, dtype=np.uint8)[:, None, None] * 20
    )
    how = {"photometric": "minisblack", "planarconfig": "separate", "compression": "jpeg"}
    tifffile.imwrite(tmp_path / "x.tif", smooth, **how)
    stored = images.read_stored(tmp_path / "x.tif")
    assert stored.pixels.shape == (40, 48, 5)
    assert np.abs(stored.pixels.astype(int) - np.moveaxis(smooth, 0, 2)).max() < 8


@pytest.mark.parametrize(
    "how",
    [
        {"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}},
        {
            "ome": True,
            "metadata": {
                "axes": "YX",
                "PhysicalSizeX": 5e2,
                "PhysicalSizeXUnit": "nm",
                "PhysicalSizeY": 0.25,
            },
        },
        {"imagej": True, "resolution": (2, 4), "metadata": {"unit": "um"}},
        {"imagej": True, "resolution": (2000, 4000), "metadata": {"unit": "mm"}},
        {"imagej": True, "resolution": (50800, 101600), "resolutionunit": "inch"},
    ],
)
def test_the_resolution_of_microscopes_is_kept(tmp_path, values, how):
    tifffile.imwrite(tmp_path / "x.ome.tif", values("uint16", (4, 4)), **how)
    stored = images.read_stored(tmp_path / "x.ome.tif")
    assert stored.metadata.dpi == pytest.approx((50800, 101600))
    images.write(stored.pixels, tmp_path / "y.ome.tif", stored.metadata)
    with tifffile.TiffFile(tmp_path / "y.ome.tif") as written:
        assert written.pages.first.description == ""  # an OME description would hide the resolution
    for name in ("y.ome.tif", "y.png"):
        images.write(stored.pixels, tmp_path / name, stored.metadata)
        assert images.read_stored(tmp_path / name).metadata.dpi == pytest.approx((50800, 101600))
    images.write((stored.pixels >> 8).astype(np.uint8), tmp_path / "y.jpg", stored.metadata)
    assert images.read_stored(tmp_path / "y.jpg").metadata.dpi is None  # not what is left of it in 16 bits


def test_resolution(tmp_path, values):
    for unit, expected in (("inch", (600, 300)), ("centimeter", (1524, 762)), ("none", None)):
        tifffile.imwrite(
            tmp_path / "x.tif", values("uint16", (4, 4)), resolution=(600, 300), resolutionunit=unit
        )
        assert images.read_stored(tmp_path / "x.tif").metadata.dpi == expected


def test_what_has_no_plain_reading_is_named(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    cases = [
        (np.zeros((4, 4), np.complex64), {}, "values of the type complex64"),
        (np.full((4, 4), 2**40, np.uint64), {}, "uint64 values .* do not fit into uint32"),
        (np.array([[0, np.nan, np.inf]], np.float32), {}, "2 of its 3 values are not finite"),
        (np.zeros((32, 32, 32), np.uint8), {"volumetric": True, "tile": (16, 16, 16)}, "it is a volume"),
        (np.zeros((4, 4), np.uint16), {"photometric": "cfa"}, "which is not read; save it as grey or RGB"),
    ]
    for pixels, how, message in cases:
        tifffile.imwrite(tmp_path / "x.tif", pixels, **{"photometric": "minisblack"} | how)
        with pytest.raises(ImageError, match=f"x.tif: .*{message}"):
            images.read_stored(tmp_path / "x.tif")
    tifffile.imwrite(tmp_path / "x.tif", np.array([[-5, 7]], np.int64), photometric="minisblack")
    stored = images.read_stored(tmp_path / "x.tif")
    assert stored.pixels.dtype == stored.facts.dtype == "int32" and stored.pixels.ravel().tolist() == [-5, 7]


def test_limits_hold_before_any_pixel_is_decoded(tmp_path, monkeypatch, values):
    tifffile.imwrite(
        tmp_path / "x.tif", values("uint16", (40, 50, 13)), photometric="minisblack", planarconfig="contig"
    )
    monkeypatch.setattr(facts, "MAX_PIXELS", 1999)
    for look in (images.read_stored, images.inspect):
        with pytest.raises(ImageError, match=r"x.tif: 50 x 40 pixels are over the limit of 1,999"):
            look(tmp_path / "x.tif")
    monkeypatch.setattr(facts, "MAX_PIXELS", 2000)
    monkeypatch.setattr(facts, "MAX_BYTES", 2000 * 26 - 1)
    for look in (images.read_stored, images.inspect):
        with pytest.raises(ImageError, match=r"x.tif: 50 x 40 pixels of 13 channels take .* GiB"):
            look(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("compression", "start", "offset"),
    [("jpeg2000", b"\xff\x4f\xff\x51", 8), ("jpeg", b"\xff\xc0\x00\x11", 5)],
)
def test_a_part_that_claims_more_pixels_than_its_place_is_refused(
    tmp_path, window, values, compression, start, offset
):
    path, pixels = tmp_path / "x.tif", values("uint8", (20, 24, 3))
    tifffile.imwrite(path, pixels, photometric="rgb", compression=compression, rowsperstrip=16)
    assert images.read_stored(path).pixels.shape == (20, 24, 3)
    content = path.read_bytes()
    place = content.index(start) + offset
    path.write_bytes(content[:place] + b"\x00\x10\xff\xff" + content[place + 4 :])
    with pytest.raises(ImageError, match=r"x.tif: damaged \(a part is larger than its place\); remove"):
        images.read_stored(path)
    with pytest.raises(
        ImageError, match=r"rows 0 to 16 and columns 0 to 24 \(a part is larger than its place\)"
    ):
        window(path, slice(3, 17), slice(2, 4))
    window(path, slice(16, 20), slice(2, 4))


def test_a_part_that_is_no_jpeg_is_refused(tmp_path, values):
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path, values("uint8", (20, 24, 3)), photometric="rgb", compression="jpeg", rowsperstrip=8
    )
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\xff\xc0\x00\x11", b"\xff\xfe\x00\x11", 1))
    with pytest.raises(ImageError, match=r"x.tif: damaged \(a part is not a JPEG\); remove"):
        images.read_stored(path)


def test_a_jpeg_part_that_is_cut_off_is_refused(tmp_path, window, values):
    """Its decoder would fill the rest with grey."""
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path, values("uint8", (64, 48, 3)), photometric="rgb", compression="jpeg", rowsperstrip=32
    )
    content = bytearray(path.read_bytes())
    end = content.index(b"\xff\xd9")
    content[end - 300 : end + 2] = bytes(302)
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"x.tif: damaged \(a part is cut off\); remove"):
        images.read_stored(path)
    with pytest.raises(ImageError, match=r"damaged at rows 0 to 32 .* \(a part is cut off\)"):
        window(path, slice(3, 17), slice(2, 4))
    window(path, slice(33, 60), slice(2, 4))


@pytest.mark.parametrize(("photometric", "channels"), [("minisblack", 1), ("miniswhite", 1), ("rgb", 3)])
@pytest.mark.parametrize("layout", [{"tile": (32, 48)}, {"rowsperstrip": 48}])
def test_jpeg_of_12_bits(tmp_path, window, photometric, channels, layout):
    path = tmp_path / "x.tif"
    ramp = np.add.outer(np.arange(100) * 30, np.arange(70) * 10).astype(np.uint16)
    pixels = ramp if channels == 1 else np.stack([ramp, ramp[::-1], ramp], axis=2)
    tifffile.imwrite(path, pixels, photometric=photometric, compression="jpeg", **layout)
    stored = images.read_stored(path)
    wanted = np.atleast_3d(4095 - pixels if photometric == "miniswhite" else pixels).astype(int)
    assert (stored.facts.dtype, stored.facts.bits) == ("uint16", 12) and stored.facts == images.inspect(path)
    assert np.abs(stored.pixels - wanted).mean() < 40
    assert np.array_equal(window(path, slice(20, 60), slice(30, 61)), stored.pixels[20:60, 30:61])


def test_a_file_without_pages_is_named(tmp_path):
    (tmp_path / "x.tif").write_bytes(b"II*\0" + bytes(4))
    with pytest.raises(ImageError, match=r"x.tif: damaged \(it holds no page\); remove it"):
        images.inspect(tmp_path / "x.tif")


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "zstd"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_a_truncated_file_is_named(tmp_path, values, compression, dtype):
    path = tmp_path / "cut.tif"
    tifffile.imwrite(
        path,
        values(dtype, (64, 64, 5)),
        photometric="minisblack",
        planarconfig="contig",
        compression=compression,
    )
    whole = path.read_bytes()
    for part in (len(whole) * 2 // 3, 20, 3, 0):
        path.write_bytes(whole[:part])
        with pytest.raises(ImageError) as caught:
            images.read_stored(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_planes_without_strips_are_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "x.tif", np.ones((20, 24, 3), np.uint16), photometric="rgb", compression="lzw"
    )
    with tifffile.TiffFile(tmp_path / "x.tif", mode="r+") as file:
        file.pages.first.tags["PlanarConfiguration"].overwrite(1, dtype="B")  # read as neither 1 nor 2
    with pytest.raises(ImageError, match=r"x.tif: damaged \(the file is cut off\)"):
        images.read_stored(
            tmp_path / "x.tif"
        )  # the values of two planes would be those that the memory had before
