import pytest
from pydantic import ValidationError

from twofold.data.settings import DataSettings


def test_the_load_size_follows_the_crop_as_in_the_original():
    assert DataSettings().loaded == 286
    assert DataSettings(size=128).loaded == 143
    assert DataSettings(size=64, load_size=64).loaded == 64


def test_every_field_is_described_in_one_sentence():
    for name, field in DataSettings.model_fields.items():
        assert field.description and field.description.endswith("."), name


@pytest.mark.parametrize(
    "changes",
    [{"jitter": 2}, {"workers": 0}, {"sise": 3}, {"resize": "no"}, {"pairs": "sides"}, {"direction": "a"}],
)
def test_what_is_no_value_is_refused(changes):
    with pytest.raises(ValidationError):
        DataSettings(**changes)


@pytest.mark.parametrize("channels", [(0, 1), (0, 1, 2, 3), (-1,)])
def test_one_or_three_channels_are_shown(channels):
    with pytest.raises(ValidationError, match="name one or three channels, counted from 0"):
        DataSettings(show_a=channels)
    assert DataSettings(show_b=(12, 0, 5)).show_b == (12, 0, 5)


@pytest.mark.parametrize(
    "changes",
    [
        {"load_size": 100},
        {"val_a": "x"},
        {"val_b": "x", "paired": True},
        {"lab": True, "direction": "ba"},
        {"lab": True, "jitter": 0.5},
        {"lab": True, "pairs": "halves"},
        {"load_size": 100, "resize": "resize-and-crop"},
        {"lab": True, "range_a": (0, 1)},
        {"labels_b": True, "range_b": "per-channel"},
        {"augment": ("turns",), "resize": "scale-width"},
    ],
)
def test_what_does_not_fit_together_is_refused(changes):
    message = next(DataSettings(**changes).contradictions())
    assert any(words in message for words in ("under the crop", "go together", "lab", "square crops"))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("0 4095", (0.0, 4095.0)),
        ("-1024, 3071", (-1024.0, 3071.0)),
        ([0, "0.5"], (0.0, 0.5)),
        ("per-channel", "per-channel"),
        (None, None),
    ],
)
def test_ranges_are_read_from_yaml_and_from_text(given, found):
    assert DataSettings(range_a=given).range_a == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([5, 3], "5 3 is no range: LOW must be under HIGH, both finite"),
        ("3 3", "3 3 is no range"),
        (["nan", 3], "nan 3 is no range"),
        ([0, float("inf")], "0 inf is no range"),
        (7, "7 is neither LOW HIGH nor per-channel"),
        ("per-pixel", "per-pixel is neither"),
        ([1, 2, 3], "1 2 3 is neither"),
    ],
)
def test_what_is_no_range_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        DataSettings(range_b=given)


def test_further_augmentation_is_named():
    assert DataSettings(augment="vertical turns").augment == ("vertical", "turns")
    with pytest.raises(ValidationError):
        DataSettings(augment="upside-down")


def test_pairs_may_hold_both_of_what_is_held_out():
    assert not [*DataSettings.model_validate({"val_a": "x", "paired": True}).contradictions()]


def test_a_crop_larger_than_the_load_size_is_fine_where_nothing_is_resized():
    assert DataSettings(size=256, load_size=100, resize="crop").size == 256
    assert not [*DataSettings(size=256, load_size=100, resize="crop").contradictions()]
