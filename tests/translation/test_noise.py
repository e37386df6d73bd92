"""The noise of pix2pix at test time: on by default where the model says so, from the seed alone, one image at a time."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from twofold.networks.registry import describe
from twofold.translation.header import Header, read_header
from twofold.translation.noise import at_test_time
from twofold.translation.translator import Translator


@pytest.fixture
def noisy(unet):
    """A U-Net with BatchNorm and dropout, as pix2pix ships it."""
    generator = unet(depth=6, dropout=True, norm="batch")

    def make(noise=None, seed=0, stored=True):
        header = Header(describe(generator), "ab", None, {"method": "pix2pix"}, stored)
        return Translator(generator, header, noise=noise, seed=seed)

    return make


def image(seed=0, size=64):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def test_the_header_turns_noise_on_and_the_seed_chooses_it(noisy):
    once = noisy()(image())
    assert np.array_equal(once, noisy()(image()))
    assert not np.array_equal(once, noisy(seed=1)(image()))
    still = noisy(noise=False)(image())
    assert not np.array_equal(once, still)
    assert np.array_equal(still, noisy(stored=False)(image()))
    assert np.array_equal(once, noisy(noise=True, stored=False)(image()))


def test_an_image_does_not_depend_on_earlier_ones_and_the_callers_random_state_stays(noisy):
    translator = noisy()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = translator(image(0))
    translator(image(1))
    assert np.array_equal(first, translator(image(0)))
    assert torch.equal(before, torch.get_rng_state())


def test_threads_draw_one_after_the_other(noisy):
    translator, images = noisy(), [image(seed) for seed in range(24)]
    expected, before = [translator(each) for each in images], torch.get_rng_state()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(map(np.array_equal, pool.map(translator, images), expected))
    finally:
        sys.setswitchinterval(interval)
    assert torch.equal(before, torch.get_rng_state())
    assert not any(module.training for module in translator.generator.modules())


def test_modes_are_restored_and_buffers_unchanged(unet):
    generator = unet(depth=6, dropout=True, norm="batch").train()
    kept = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    modes = [module.training for module in generator.modules()]
    with pytest.raises(KeyError), at_test_time(generator, noise=True):
        generator(torch.rand(1, 3, 64, 64))
        raise KeyError
    assert [module.training for module in generator.modules()] == modes
    assert all(torch.equal(tensor, kept[name]) for name, tensor in generator.state_dict().items())


def test_a_model_file_stores_the_flag(noisy, tmp_path):
    translator = noisy()
    translator.save(tmp_path / "model.safetensors")
    assert read_header(tmp_path / "model.safetensors").noise
    again = Translator.load(tmp_path / "model.safetensors", device="cpu")
    assert np.array_equal(again(image()), translator(image()))
    assert not np.array_equal(
        Translator.load(tmp_path / "model.safetensors", noise=False)(image()), again(image())
    )
