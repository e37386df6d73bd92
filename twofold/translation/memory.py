"""The memory that a translation needs, and the message when there is too little."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import accumulate
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from twofold import hardware
from twofold.cpu import scratch
from twofold.errors import UsageError
from twofold.networks.layers import Generator
from twofold.translation.sizes import taken

Forward = Callable[[Tensor], Tensor]

BYTES_PER_PIXEL = 100
BYTES_PER_PIXEL_AND_WIDTH = {"transposed": 20, "resize": 40, "resize-zero": 40, "blur": 40}
"""A rough count: the image in several forms, and some feature maps of the generator's width."""

BYTES_PER_CHANNEL = 6
"""For each channel of the input: its padded values of up to 2 bytes, and the floats that the network sees."""

BYTES_PER_CHANNEL_AFTERWARDS = 12
"""For each channel of the output: its floats, twice more while they become stored values."""

CERTAIN = 0.5
"""Share of the free memory below which the rough count decides, without a dry pass."""

BATCH_SHARE = 0.5
"""Share of the free memory that a batch may take."""

DRY_SIDE = 512
"""Side in pixels of a dry pass, about. Memory grows with the pixels: from 512 to 1024 px, within 6 % a pixel."""

LARGE = 2**18
"""Pixels of an image above which its memory goes back to the system when it is done."""

_measured: WeakKeyDictionary[Generator, dict[str, float]] = WeakKeyDictionary()


def rough_bytes_per_pixel(generator: Generator) -> int:
    """Peak memory of a translation, in bytes per pixel that the network sees, within a factor of two."""
    arguments = generator.arguments
    further = sum(max(0, int(arguments[f"{end}_channels"]) - 3) for end in ("in", "out"))
    image = BYTES_PER_PIXEL + 4 * BYTES_PER_CHANNEL * further
    return image + BYTES_PER_PIXEL_AND_WIDTH[str(arguments["upsample"])] * int(arguments["width"])


def bytes_per_pixel(generator: Generator, forward: Forward, precision: str) -> float:
    """Peak memory of a translation, in bytes per pixel that the network sees, from a dry pass on a small image.

    The pass is made once for each generator and precision.
    """
    known = _measured.setdefault(generator, {})
    if precision not in known:
        known[precision] = dry_pass(generator, forward)
    before, after = (int(generator.arguments[f"{end}_channels"]) for end in ("in", "out"))
    whole = known[precision] + BYTES_PER_CHANNEL * before
    return max(whole, BYTES_PER_CHANNEL * before + BYTES_PER_CHANNEL_AFTERWARDS * after)


def peak(generator: Generator, forward: Forward, precision: str, pixels: int) -> float:
    """Peak memory in bytes of a translation of so many pixels, from a dry pass.

    For more than `LARGE` pixels within a tenth; for U-Nets up to 65 % too high (scratch memory that is not touched).
    """
    return pixels * bytes_per_pixel(generator, forward, precision)


@torch.inference_mode()
def dry_pass(generator: Generator, forward: Forward) -> float:
    """The largest sum of the allocator's blocks at a time, in bytes per pixel."""
    side = taken(DRY_SIDE, generator)
    parameter = next(generator.parameters())
    images = torch.zeros(1, int(generator.arguments["in_channels"]), side, side, device=parameter.device)
    measure = peak_on_gpu if images.is_cuda else peak_on_cpu
    return measure(lambda: forward(images)) / side**2


def peak_on_gpu(run: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() - before


def peak_on_cpu(run: Callable[[], object]) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes lines to the terminal
    scratch.release()
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
    # In a heap that this pass enlarges, the translation would put blocks whose memory then stays.
    with hardware.large_blocks_returned(), profiler:
        made = run()
    scratch.release()
    events = profiler.profiler.kineto_results.events()  # pyright: ignore[reportOptionalMemberAccess]
    blocks = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")  # pyright: ignore[reportAttributeAccessIssue]
    del made
    return max(accumulate(block for _, block in blocks), default=0)


def batch_that_fits(generator: Generator, device: torch.device, side: int) -> int | None:
    """How many images of side² pixels fit into memory together; None where the free memory is not known."""
    free = hardware.free_memory(device)
    return None if free is None else int(BATCH_SHARE * free / (side**2 * rough_bytes_per_pixel(generator)))


def room(device: torch.device, limit: int | None = None) -> int | None:
    """Bytes that a translation may take: what is free, and no more than the limit; None where neither is known."""
    free = hardware.free_memory(device)
    return min((each for each in (free, limit) if each is not None), default=None)


def needed(
    generator: Generator, forward: Forward | None, precision: str, pixels: int, available: int
) -> float:
    """Peak memory in bytes of a translation of so many pixels; a rough count where it is far below what is available.

    Args:
        forward: runs the network in torch; None where another library does, whose memory is not measured.
    """
    rough = float(pixels * rough_bytes_per_pixel(generator))
    if forward is None or rough < CERTAIN * available:
        return rough
    return peak(generator, forward, precision, pixels)


def refuse(generator_bytes: float, available: int, height: int, width: int, also: str = "") -> UsageError:
    """The error for an image that does not fit; names a size at which one would."""
    fits = int((0.8 * available / (generator_bytes / (height * width))) ** 0.5)
    return UsageError(
        f"{width}×{height} pixels need about {generator_bytes / 2**20:,.0f} MiB of memory, {available / 2**20:,.0f} are"
        f" free; {also}use --at {fits} (the result is enlarged to the image's size)"
    )


@contextmanager
def for_large_images(pixels: int) -> Iterator[None]:
    """Inside, a large image takes the memory of its tensors and no more; afterwards it is free for the next one."""
    if pixels <= LARGE:
        yield
        return
    with hardware.large_blocks_returned():
        try:
            yield
        finally:
            scratch.release()
    hardware.return_freed_memory()


def explain_out_of_memory(height: int, width: int) -> AbstractContextManager[None]:
    """Turn an allocator's error into one line that names a smaller size."""
    return hardware.explained_out_of_memory(
        f"{width}×{height} pixels do not fit into memory; use --at {max(height, width) // 2} or less"
    )
