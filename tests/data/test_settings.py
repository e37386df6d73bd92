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
    ],
)
def test_what_does_not_fit_together_is_refused(changes):
    with pytest.raises(ValueError, match=r"under the crop|go together|lab"):
        DataSettings(**changes).agree()


def test_pairs_may_hold_both_of_what_is_held_out():
    DataSettings.model_validate({"val_a": "x", "paired": True}).agree()


def test_a_crop_larger_than_the_load_size_is_fine_where_nothing_is_resized():
    assert DataSettings(size=256, load_size=100, resize="crop").size == 256
    DataSettings(size=256, load_size=100, resize="crop").agree()
