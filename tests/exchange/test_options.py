"""Options files of the originals, old and new."""

import pytest

from twofold.errors import TwofoldError
from twofold.exchange.options import NAMES, options_beside, read_options
from twofold.formats.scale import Geometry


def written(path, **values):
    """A file as the original writes it: right-aligned names, padded values, and remarks."""
    lines = [f"{name:>25}: {value!s:<30}\t[default: 286]" for name, value in values.items()]
    path.write_text("\n".join(["----------------- Options ---------------", *lines, "---- End ----", ""]))
    return path


@pytest.fixture
def options(tmp_path):
    return lambda **values: read_options(written(tmp_path / "train_opt.txt", **values))


@pytest.mark.parametrize(
    ("values", "geometry"),
    [
        (
            {"preprocess": "resize_and_crop", "load_size": 286, "crop_size": 256},
            ("resize-and-crop", 256, 256),
        ),
        ({"preprocess": "resize_and_crop", "crop_size": 512}, ("resize-and-crop", 512, 512)),
        (
            {"resize_or_crop": "resize_and_crop", "loadSize": 286, "fineSize": 128},
            ("resize-and-crop", 128, 128),
        ),
        ({"preprocess": "scale_width", "load_size": 1024, "crop_size": 360}, ("scale-width", 1024, 360)),
        (
            {"preprocess": "scale_width_and_crop", "load_size": 1024, "crop_size": 360},
            ("scale-width-and-crop", 1024, 360),
        ),
        (
            {"preprocess": "scale_shortside_and_crop", "load_size": 286, "crop_size": 256},
            ("shortest", 286, 256),
        ),
        ({"preprocess": "crop", "load_size": 286, "crop_size": 256}, ("crop", 286, 256)),
        ({"preprocess": "none", "crop_size": 256}, ("none", 256, 256)),
        ({"preprocess": "zoom_and_crop", "load_size": 286, "crop_size": 256}, None),
        ({"preprocess": "resize_and_crop"}, None),
        ({"preprocess": "resize_and_crop", "crop_size": "0"}, None),
        ({"preprocess": "resize_and_crop", "crop_size": "9" * 40}, None),
        ({"preprocess": "resize_and_crop", "crop_size": "²"}, None),
        ({}, None),
    ],
)
def test_geometry_is_that_of_the_originals_test(options, values, geometry):
    assert options(**values).geometry == (Geometry(*geometry) if geometry else None)


def test_direction_and_dropout(options):
    assert not options(direction="AtoB").swapped and not options(norm="batch").swapped
    assert options(direction="BtoA").swapped and options(which_direction="BtoA").swapped
    assert [options(no_dropout=value).dropout for value in (True, False, "maybe")] == [False, True, None]
    assert options(direction="BtoA", norm="batch", name="x").words == "direction BtoA, norm batch"
    with pytest.raises(TwofoldError, match="direction sideways, not AtoB or BtoA"):
        options(direction="sideways")


def test_the_training_file_counts_first(tmp_path):
    checkpoint = tmp_path / "latest_net_G.pth"
    assert options_beside(checkpoint) is None
    for name in reversed(NAMES):
        written(tmp_path / name, direction="AtoB")
        assert options_beside(checkpoint).file.name == name


def test_any_bytes_are_read(tmp_path):
    file = tmp_path / "train_opt.txt"
    spaces = b" " * 500_000
    for content in (
        b"",
        b"\xff\xfe\0",
        b": : :\n" * 1000,
        b"x: a" + spaces + b"b",
        b"direction:" + spaces + b"BtoA\r\n",
    ):
        file.write_bytes(content)
        read_options(file)
    assert read_options(file).swapped
