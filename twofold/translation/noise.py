"""The noise z of pix2pix at test time: dropout that stays on, drawn from a seed for each image."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import RLock

import torch
from torch import nn

from twofold.randomness import seed32

_one_at_a_time = RLock()
"""Held while noise is drawn: torch's random state, and the modes of the generator, belong to all threads."""


@contextmanager
def at_test_time(generator: nn.Module, noise: bool, seed: int = 0) -> Iterator[None]:
    """Put `generator` in eval mode, with dropout on if `noise`; restore its modes and the random state afterwards.

    The dropout masks depend on `seed` and on the batch's shape, so translate one image at a time.
    """
    with _one_at_a_time if noise else nullcontext():
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
