"""A trace of a few steps by torch's profiler."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from twofold.files import replacing
from twofold.runs import Notify, Run

SKIPPED, STEPS = 6, 10
"""Steps before the trace, in which torch compiles, captures and fills its caches, and steps in it."""


@contextmanager
def profiled(
    run: Run, device: torch.device, images: Callable[[], int], notify: Notify
) -> Iterator[Callable[[], None]]:
    """Trace `STEPS` steps of the block into RUN/profile.

    Yields:
        A function to call after each step.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler prints lines of its own
    file: Path | None = None
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (device.type == "cuda")]

    def write(trace: profile) -> None:
        nonlocal file
        file = run.profile(images())
        with replacing(file) as aside:
            trace.export_chrome_trace(str(aside))
        notify(f"profile of {STEPS} steps: {file}; open it at https://ui.perfetto.dev or in chrome://tracing")

    steps = schedule(wait=SKIPPED - 1, warmup=1, active=STEPS, repeat=1)
    with profile(activities=activities, schedule=steps, on_trace_ready=write) as tracing:
        yield tracing.step
    if file is None:
        notify(f"no profile: the run ended before step {SKIPPED + 1}")
