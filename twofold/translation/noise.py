"""The noise z of pix2pix at test time: dropout that stays on, drawn for each image from a seed alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from twofold.randomness import seed32


@contextmanager
def at_test_time(generator: nn.Module, noise: bool, seed: int = 0) -> Iterator[None]:
    """`generator` in eval mode, its dropout on if `noise`; modes and random state are as before afterwards.

    Masks depend on `seed` and on the image's size, so give one image at a time.
    """
    modes = [(module, module.training) for module in generator.modules()]
    generator.eval()
    for module in generator.modules():
        if isinstance(module, nn.Dropout):
            module.training = noise
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count()), enabled=noise):
            if noise:
                torch.manual_seed(seed32("noise", seed))
            yield
    finally:
        for module, mode in modes:
            module.training = mode
