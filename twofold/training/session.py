"""What surrounds a run: the signals that ask it to stop, and torch's global state."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

import torch
from torch.backends import cudnn

from twofold.cpu import scratch

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""The environment variable that cuBLAS needs for repeatable results."""


@contextmanager
def interruptible() -> Iterator[Event]:
    """Set the event on SIGINT or SIGTERM, for the loop to read between steps; a second signal has its usual effect.

    Outside the main thread signals cannot be caught, and the event is never set.
    """
    request = Event()
    before = {}

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        request.set()
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handle)
    except ValueError:
        before = {}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def own_torch_state(threads: int, deterministic: bool, one_size: bool) -> Iterator[None]:
    """Set torch's global state inside the block, and restore it and its random state afterwards; free scratch memory.

    Args:
        threads: of a CPU.
        deterministic: on CUDA, use repeatable algorithms only.
        one_size: the images have one size, so that on CUDA cuDNN may time its algorithms and take the fastest.
    """
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    benchmark_before = cudnn.benchmark
    workspace_before = os.environ.get(CUBLAS_WORKSPACE)
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        cudnn.benchmark = one_size and not deterministic
        if deterministic and workspace_before is None:
            os.environ[CUBLAS_WORKSPACE] = ":4096:8"  # else torch refuses matrix products
        try:
            yield
        finally:
            scratch.release()  # of the convolutions on a CPU
            torch.set_num_threads(threads_before)
            torch.use_deterministic_algorithms(deterministic_before)
            cudnn.benchmark = benchmark_before
            if workspace_before is None:
                os.environ.pop(CUBLAS_WORKSPACE, None)
