"""The memory that a translation needs, and the message when there is too little."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from twofold import hardware
from twofold.errors import TwofoldError, UsageError
from twofold.networks.layers import Generator

BYTES_PER_PIXEL = 100
BYTES_PER_PIXEL_AND_WIDTH = {"transposed": 20, "resize": 40, "resize-zero": 40, "blur": 40}
"""Measured peak memory: the image in several forms, and some feature maps of the generator's width."""

BYTES_PER_FURTHER_CHANNEL = 24
"""Memory per pixel for each channel of the input and of the output beyond three, counted and not measured: the stored
and the padded values, and their floats before and after a resize."""

BATCH_SHARE = 0.5
"""Share of the free memory that a batch may take."""


def bytes_per_pixel(generator: Generator) -> int:
    """Peak memory of a translation, in bytes per pixel that the network sees."""
    arguments = generator.arguments
    further = sum(max(0, int(arguments[f"{end}_channels"]) - 3) for end in ("in", "out"))
    image = BYTES_PER_PIXEL + BYTES_PER_FURTHER_CHANNEL * further
    return image + BYTES_PER_PIXEL_AND_WIDTH[str(arguments["upsample"])] * int(arguments["width"])


def batch_that_fits(generator: Generator, device: torch.device, side: int) -> int | None:
    """How many images of side² pixels fit into memory together; None where the free memory is not known."""
    free = hardware.free_memory(device)
    return None if free is None else int(BATCH_SHARE * free / (side**2 * bytes_per_pixel(generator)))


def check_memory(generator: Generator, device: torch.device, height: int, width: int, count: int) -> None:
    """Refuse a batch of `count` images that does not fit into the free memory.

    Raises:
        UsageError: names a size at which one image would fit.
    """
    free = hardware.free_memory(device)
    needed = count * height * width * bytes_per_pixel(generator)
    if free is not None and needed > free:
        fits = int((0.8 * free / bytes_per_pixel(generator)) ** 0.5)
        raise UsageError(
            f"{width}×{height} pixels need about {needed / 2**20:,.0f} MiB of memory, {free / 2**20:,.0f} are free;"
            f" use --at {fits} (the result is enlarged to the image's size)"
        )


@contextmanager
def explain_out_of_memory(height: int, width: int) -> Iterator[None]:
    """Turn an allocator's error into one line that names a smaller size."""
    try:
        yield
    except RuntimeError as error:
        if not hardware.is_out_of_memory(error):
            raise
        raise TwofoldError(
            f"{width}×{height} pixels do not fit into memory; use --at {max(height, width) // 2} or less"
        ) from error
