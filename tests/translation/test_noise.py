"""The noise of pix2pix at test time: on by default where the model says so, from the seed alone, one image at a time."""

import numpy as np
import pytest
import torch

from twofold.networks.registry import describe
from twofold.translation import model
from twofold.translation.model import Header
from twofold.translation.noise import at_test_time
from twofold.translation.translator import Translator


@pytest.fixture
def noisy(unet):
    """A U-Net with BatchNorm and dropout, as pix2pix ships it."""
    generator = unet(depth=6, dropout=True, norm="batch")

    def make(noise=None, seed=0, said=True):
        header = Header(describe(generator), "ab", None, {"method": "pix2pix"}, said)
        return Translator(generator, header, noise=noise, seed=seed)

    return make


def image(seed=0, size=64):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def test_the_model_says_whether_and_the_seed_how(noisy):
    once = noisy()(image())
    assert np.array_equal(once, noisy()(image()))
    assert not np.array_equal(once, noisy(seed=1)(image()))
    still = noisy(noise=False)(image())
    assert not np.array_equal(once, still)
    assert np.array_equal(still, noisy(said=False)(image()))
    assert np.array_equal(once, noisy(noise=True, said=False)(image()))


def test_no_image_depends_on_those_before_and_the_callers_random_state_stays(noisy):
    translator = noisy()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = translator(image(0))
    translator(image(1))
    assert np.array_equal(first, translator(image(0)))
    assert torch.equal(before, torch.get_rng_state())


def test_modes_are_given_back_and_no_buffer_is_touched(unet):
    generator = unet(depth=6, dropout=True, norm="batch").train()
    kept = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    modes = [module.training for module in generator.modules()]
    with pytest.raises(KeyError), at_test_time(generator, noise=True):
        generator(torch.rand(1, 3, 64, 64))
        raise KeyError
    assert [module.training for module in generator.modules()] == modes
    assert all(torch.equal(tensor, kept[name]) for name, tensor in generator.state_dict().items())


def test_a_file_keeps_it(noisy, tmp_path):
    translator = noisy()
    translator.save(tmp_path / "model.safetensors")
    assert model.read_header(tmp_path / "model.safetensors").noise
    again = Translator.load(tmp_path / "model.safetensors", device="cpu")
    assert np.array_equal(again(image()), translator(image()))
    assert not np.array_equal(
        Translator.load(tmp_path / "model.safetensors", noise=False)(image()), again(image())
    )
