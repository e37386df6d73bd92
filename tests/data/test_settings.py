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
    [{"load_size": 100}, {"val_a": "x"}, {"jitter": 2}, {"workers": 0}, {"sise": 3}, {"resize": "no"}],
)
def test_what_does_not_fit_is_refused(changes):
    with pytest.raises(ValidationError):
        DataSettings(**changes)


def test_a_crop_larger_than_the_load_size_is_fine_where_nothing_is_resized():
    assert DataSettings(size=256, load_size=100, resize="crop").size == 256
