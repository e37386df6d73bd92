"""Arrays of any number type in .npy and .npz files."""

import numpy as np
import pytest

from twofold.formats import images
from twofold.formats.contract import DTYPES
from twofold.formats.images import ImageError


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("endian", "<>")
def test_any_type_order_and_layout(tmp_path, values, dtype, order, endian):
    pixels = values(dtype, (9, 14, 6))
    for layout, given in (("hwc", pixels), ("chw", np.moveaxis(pixels, 2, 0)), ("hwc", pixels[..., 0])):
        expected = pixels if given.ndim == 3 else pixels[..., :1]
        given = np.asarray(given, dtype=np.dtype(dtype).newbyteorder(endian), order=order)
        np.save(tmp_path / "x.npy", given)
        np.savez(tmp_path / "x.npz", any=given)
        for path in (tmp_path / "x.npy", tmp_path / "x.npz"):
            stored = images.read_stored(path, layout=layout)
            assert np.array_equal(stored.pixels, expected) and stored.pixels.dtype == np.dtype(dtype)
            assert stored.pixels.flags.c_contiguous
            channels, bits = expected.shape[2], expected.itemsize * 8
            assert stored.facts == images.inspect(path, layout)
            assert stored.facts == (14, 9, channels, channels == 1, dtype, bits, False, 1, ())
            assert np.array_equal(images.read_stored(path, path.read_bytes(), layout=layout).pixels, expected)


def test_other_numbers(tmp_path):
    for given, dtype, expected in [
        (np.array([[True, False]]), "uint8", [255, 0]),
        (np.array([[-3, 2**31 - 1]]), "int32", [-3, 2**31 - 1]),
        (np.array([[3, 2**32 - 1]], np.uint64), "uint32", [3, 2**32 - 1]),
        (np.array([[0.5, -7]], np.longdouble), "float64", [0.5, -7.0]),
    ]:
        np.save(tmp_path / "x.npy", given)
        stored = images.read_stored(tmp_path / "x.npy")
        assert stored.pixels.dtype == stored.facts.dtype == dtype == images.inspect(tmp_path / "x.npy").dtype
        assert stored.pixels.ravel().tolist() == expected


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_what_is_refused(tmp_path, suffix):
    for given, message in [
        (np.zeros((4, 4), complex), "values of the type complex128; save it as one of uint8, uint16"),
        (np.array([["a"]]), "values of the type str"),
        (np.zeros((4, 4), "M8[s]"), "values of the type datetime64"),
        (np.zeros((4, 4), [("a", "u1")]), "values of the type void8"),
        (np.array([[1, 2**31]]), "int64 values from 1 to 2147483648 do not fit into int32"),
        (np.array([[1, np.nan], [np.inf, -np.inf]]), "3 of its 4 values are not finite"),
        (
            np.zeros((3, 40, 50)),
            r"shape 3 x 40 x 50 has the channels first; give --data.layout chw, or save np.transp",
        ),
        (np.zeros((13, 200, 300), np.uint8), "has the channels first"),
        (np.zeros((13, 64, 64), np.uint8), "has the channels first"),
    ]:
        path = tmp_path / f"x.{suffix}"
        np.save(path, given) if suffix == "npy" else np.savez(path, a=given)
        with pytest.raises(ImageError, match=f"x.{suffix}: .*{message}"):
            images.read_stored(path)


def test_channels_last_is_not_taken_for_channels_first(tmp_path):
    for shape in [(3, 40, 4), (40, 50, 64), (64, 64, 64), (4, 4, 30), (16, 64, 20)]:
        np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
        assert images.read_stored(tmp_path / "x.npy").pixels.shape == shape


@pytest.mark.parametrize("shape", [(64, 64, 13), (40, 50, 3), (200, 300, 13)])
def test_channels_last_are_refused_where_the_user_says_first(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
    with pytest.raises(
        ImageError, match=r"has the channels last; leave out --data.layout chw, or save np.tr"
    ):
        images.inspect(tmp_path / "x.npy", "chw")
    assert images.inspect(tmp_path / "x.npy").channels == shape[2]


@pytest.mark.parametrize("shape", [(3, 40, 50), (13, 64, 64), (64, 64, 64), (200, 145, 145), (3, 4, 4)])
def test_channels_first_are_read_where_the_user_says_so(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
    assert images.inspect(tmp_path / "x.npy", "chw").channels == shape[0]


def test_an_archive_of_several_arrays_names_them(tmp_path):
    np.savez(tmp_path / "x.npz", image=np.zeros((4, 4)), mask=np.zeros((4, 4)))
    with pytest.raises(
        ImageError, match=r"x.npz: it is an archive of 2 arrays \(image, mask\); save one array"
    ):
        images.read_stored(tmp_path / "x.npz")
    with pytest.raises(ImageError, match=r"x.npz: it is an archive of 2 arrays"):
        images.inspect(tmp_path / "x.npz")


def test_a_header_of_more_than_the_file_holds_is_refused_before_memory_is_taken(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((100, 100), np.uint8))
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content.replace(b"(100, 100), ", b"(9999,9999),"))
    with pytest.raises(ImageError, match=r"x.npy: damaged \(the file is cut off\)"):
        images.read_stored(tmp_path / "x.npy")
    (tmp_path / "x.npy").write_bytes(content.replace(b"(100, 100), ", b"(99999,9999)"))
    with pytest.raises(ImageError, match=r"x.npy: 9,999 x 99,999 pixels are over the limit"):
        images.inspect(tmp_path / "x.npy")
