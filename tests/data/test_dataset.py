import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from twofold.data.dataset import ImageStore
from twofold.data.geometry import LoadRule
from twofold.data.settings import DataSettings
from twofold.formats import images
from twofold.formats.contract import Contract

sides = st.integers(1, 3000)


@given(width=sides, height=sides)
def test_resize_and_crop_squashes(width, height):
    assert LoadRule(DataSettings(size=128, resize="resize-and-crop"), Contract(), 4).shape(width, height) == (
        143,
        143,
    )
    assert LoadRule(DataSettings(size=128, load_size=150, resize="resize-and-crop"), Contract(), 4).shape(
        width, height
    ) == (150, 150)


@given(width=sides, height=sides, size=st.integers(1, 300), room=st.integers(0, 50))
def test_scale_width_fits_the_crop_and_keeps_the_proportions(width, height, size, room):
    settings = DataSettings(size=size, load_size=size + room, resize="scale-width-and-crop")
    h, w = LoadRule(settings, Contract(), 4).shape(width, height)
    assert h >= size and w >= size + room
    assert w == size + room or h == size
    scale = max((size + room) / width, size / height)
    assert abs(h - height * scale) <= 1 and abs(w - width * scale) <= 1


@given(width=sides, height=sides, multiple=st.sampled_from([1, 4, 32, 256]))
def test_crop_keeps_the_size_and_none_rounds_it_down(width, height, multiple):
    assert LoadRule(DataSettings(resize="crop"), Contract(), multiple).shape(width, height) == (height, width)
    h, w = LoadRule(DataSettings(resize="none"), Contract(), multiple).shape(width, height)
    assert h % multiple == w % multiple == 0
    assert 0 <= height - h < multiple and 0 <= width - w < multiple


@given(width=sides, height=sides, size=st.integers(1, 300), room=st.integers(0, 50))
def test_shortest_brings_the_shorter_side_to_the_load_size(width, height, size, room):
    settings = DataSettings(size=size, load_size=size + room)
    h, w = LoadRule(settings, Contract(), 4).shape(width, height)
    assert min(h, w) == size + room
    scale = (size + room) / min(width, height)
    assert abs(h - height * scale) <= 0.5 and abs(w - width * scale) <= 0.5


@given(width=sides, height=sides, multiple=st.sampled_from([1, 4, 32]))
def test_scale_width_gives_whole_images_of_a_multiple(width, height, multiple):
    settings = DataSettings(size=64, load_size=96, resize="scale-width")
    h, w = LoadRule(settings, Contract(), multiple).shape(width, height)
    assert w == 96 and h % multiple == 0 and h >= multiple
    assert h == multiple or 0 <= round(height * 96 / width) - h < multiple


def test_a_store_decodes_what_the_rule_says(fill, small):
    folder = fill("A", 3)
    rule = LoadRule(small(), Contract(), 4)
    store = ImageStore([folder / f"{i}.png" for i in range(3)], rule)
    assert len(store) == 3 and store.pixels is None
    expected = images.resize(images.read(folder / "1.png"), 9, 9)
    assert store[1].dtype == torch.uint8
    assert np.array_equal(store[1].numpy(), expected)


def test_the_key_of_a_rule_holds_what_pixels_depend_on_and_nothing_else():
    def key(contract=None, channels=3, multiple=4, **changes):
        return LoadRule(DataSettings(**changes), contract or Contract(channels=channels), multiple).key()

    assert key() == key(flip=False, multiple=32, workers=5)
    assert key(resize="crop") == key(resize="crop", size=8)
    different = [key(), key(size=128), key(channels=1), key(resize="crop"), key(resize="none")]
    different += [key(resize="none", multiple=32), key(resize="scale-width-and-crop")]
    different += [key(resize="scale-width"), key(resize="scale-width", multiple=8), key(layout="chw")]
    different += [key(contract) for contract in (Contract("uint16"), Contract(icc="srgb"))]
    assert key(Contract("int16", low=(-5,))) == key(Contract("int16", high=(9,), found="percentiles"))
    assert len({tuple(k) for k in different}) == len(different)
