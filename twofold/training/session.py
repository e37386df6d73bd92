"""What surrounds a run: the signals that ask it to stop, and torch's global state."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

import torch
from torch.backends import cudnn

from twofold.cpu import scratch

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""The environment variable that cuBLAS needs for repeatable results."""

LAUNCHED_BY_TORCHRUN = "TORCHELASTIC_RUN_ID"
"""An environment variable that torchrun sets."""


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Set the event on SIGINT or SIGTERM, for the loop to read between steps; a second signal has its usual effect.

    Under torchrun a second signal has none: torchrun passes on the signal that its processes have had already, and kills
    those that still run after 30 seconds. Outside the main thread signals cannot be caught, and the event is never set.
    """
    request = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        request.set()
        if LAUNCHED_BY_TORCHRUN in os.environ:
            return
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    with ExitStack() as afterwards:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                afterwards.callback(signal.signal, number, signal.signal(number, handle))
        yield request


@contextmanager
def own_torch_state(
    device: torch.device, threads: int, deterministic: bool, one_size: bool
) -> Iterator[None]:
    """Set torch's global state inside the block, and restore it and its random state afterwards; free scratch memory.

    Args:
        device: the current GPU if it is one, as some of torch's functions take no other.
        one_size: the images have one size, so that on CUDA cuDNN may time its algorithms and take the fastest.
    """
    with torch.random.fork_rng(range(torch.cuda.device_count())), ExitStack() as afterwards:
        if device.type == "cuda":
            afterwards.enter_context(torch.cuda.device(device))
        afterwards.callback(torch.set_num_threads, torch.get_num_threads())
        were_deterministic = torch.are_deterministic_algorithms_enabled()
        afterwards.callback(torch.use_deterministic_algorithms, were_deterministic)
        afterwards.callback(setattr, cudnn, "benchmark", cudnn.benchmark)
        afterwards.callback(scratch.release)  # of the convolutions on a CPU
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        cudnn.benchmark = one_size and not deterministic
        if deterministic and CUBLAS_WORKSPACE not in os.environ:
            os.environ[CUBLAS_WORKSPACE] = ":4096:8"  # else torch refuses matrix products
            afterwards.callback(os.environ.pop, CUBLAS_WORKSPACE, None)
        yield
