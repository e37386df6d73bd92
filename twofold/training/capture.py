"""A training step as one CUDA graph: recorded once, then launched as one instead of as thousands of kernels.

A graph repeats the same kernels on the same memory, so nothing in a step may depend on a Python number that changes.
tests/training/test_capture.py checks this on a CPU: it repeats the operations of one step on the images of the next.
"""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from twofold.errors import TwofoldError
from twofold.methods.base import Batch

WARM_UP = 3
"""Steps that run before one is recorded: they allocate moments and buffers, and compile."""

Work = Callable[[], None]


class CaptureFailed(TwofoldError):
    """A step could not be recorded. Memory and random numbers are in no state to train on with."""


class CudaRecorder:
    """Runs work, and records it as CUDA graphs that share one memory pool.

    All work is on one stream, which gradients remember. The graphs may share memory because only one runs at a time and
    no tensor made by a recorded step outlives it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def run(self, work: Work) -> None:
        assert self.stream is not None
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            work()
        current.wait_stream(self.stream)

    def record(self, work: Work) -> Work:
        """A function that repeats `work` on the present content of its tensors. Does no work itself."""
        assert self.stream is not None
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        draws = torch.cuda.default_generators[self.stream.device_index]
        seed = draws.initial_seed()
        try:
            # thread_local: other threads may load images meanwhile
            with torch.cuda.graph(graph, self.pool, self.stream, "thread_local"):
                work()
        except BaseException:
            # After a failure torch would keep the graph's stream as the current one, and its generator would refuse to
            # draw or to be reset (pytorch #91950): the caller's program could not go on.
            torch.cuda.set_stream(current)
            fresh = torch.Generator(self.device).manual_seed(seed)
            draws.graphsafe_set_state(fresh.graphsafe_get_state())
            raise
        return graph.replay


class Capture:
    """Runs steps, and records each kind of step after its first few.

    Args:
        learn: the part of a step that runs on the device.
    """

    def __init__(self, learn: Callable[[Batch], None], recorder: CudaRecorder) -> None:
        self.learn, self.recorder = learn, recorder
        self.seen: dict[Hashable, int] = {}
        self.recorded: dict[Hashable, tuple[Batch, Work]] = {}

    def step(self, batch: Batch, kind: Hashable) -> None:
        """One step on `batch`; steps of one `kind` run the same operations on images of the same shapes.

        Raises:
            CaptureFailed: the step could not be recorded, and this training cannot go on.
        """
        seen = self.seen[kind] = self.seen.get(kind, 0) + 1
        if seen > WARM_UP and kind not in self.recorded:
            self.recorded[kind] = self._record(batch)
        recorded = self.recorded.get(kind)
        if recorded is None or [x.shape for x in tensors(recorded[0])] != [x.shape for x in tensors(batch)]:
            self.recorder.run(lambda: self.learn(batch))
            return
        inputs, repeat = recorded
        for target, source in zip(tensors(inputs), tensors(batch), strict=True):
            target.copy_(source)
        self.recorder.run(repeat)

    def _record(self, batch: Batch) -> tuple[Batch, Work]:
        inputs = Batch._make(x.clone() if isinstance(x, Tensor) else x for x in batch)
        try:
            return inputs, self.recorder.record(lambda: self.learn(inputs))
        except RuntimeError as error:
            reason = str(first_cause(error)).partition("\n")[0]
            raise CaptureFailed(
                f"cannot record a step as a CUDA graph: {reason}; resume the run with --machine.no-capture"
            ) from error


def first_cause(error: BaseException) -> BaseException:
    """The error that came first: torch raises another one when it ends the recording."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return error


def tensors(batch: Batch) -> list[Tensor]:
    return [x for x in batch if isinstance(x, Tensor)]
