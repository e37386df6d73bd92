"""A training step as one CUDA graph: recorded once, then launched as one instead of as thousands of kernels.

A graph repeats the same kernels on the same memory, so nothing in a step may depend on a Python number that changes.
tests/training/test_capture.py checks this on a CPU: it repeats the operations of one step on the images of the next.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from twofold.methods.base import Batch

WARM_UP = 3
"""Steps that run before one is recorded: they allocate moments and buffers, and compile."""

Work = Callable[[], None]


class CudaRecorder:
    """Runs work, and records it as a CUDA graph. All work is on one stream, which gradients remember."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

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
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                work()
        except RuntimeError:
            # After a failure torch would keep the graph's stream as the current one, and its generator would refuse to
            # draw (pytorch #91950).
            torch.cuda.set_stream(current)
            fresh = torch.Generator(self.device).manual_seed(seed)
            draws.graphsafe_set_state(fresh.graphsafe_get_state())
            raise
        return graph.replay


class Capture:
    """Runs steps, and records each kind of step after its first few.

    Args:
        learn: the part of a step that runs on the device.
        undo: called after a recording that failed.
        recorder: runs and records.
        notify: receives a line if recording fails.
    """

    def __init__(
        self,
        learn: Callable[[Batch], None],
        undo: Work,
        recorder: CudaRecorder,
        notify: Callable[[str], None],
    ) -> None:
        self.learn, self.undo, self.recorder, self.notify = learn, undo, recorder, notify
        self.seen: dict[int, int] = {}
        self.recorded: dict[int, tuple[Batch, Work]] = {}
        self.failed = False

    def step(self, batch: Batch, kind: int) -> None:
        """One step on `batch`; steps of one `kind` run the same operations on images of the same shapes."""
        seen = self.seen[kind] = self.seen.get(kind, 0) + 1
        if seen > WARM_UP and kind not in self.recorded and not self.failed:
            self._record(batch, kind)
        recorded = self.recorded.get(kind)
        if recorded is None or [x.shape for x in tensors(recorded[0])] != [x.shape for x in tensors(batch)]:
            self.recorder.run(lambda: self.learn(batch))
            return
        inputs, repeat = recorded
        for target, source in zip(tensors(inputs), tensors(batch), strict=True):
            target.copy_(source)
        self.recorder.run(repeat)

    def _record(self, batch: Batch, kind: int) -> None:
        inputs = Batch._make(x.clone() if isinstance(x, Tensor) else x for x in batch)
        try:
            self.recorded[kind] = inputs, self.recorder.record(lambda: self.learn(inputs))
        except RuntimeError as error:
            self.failed = True
            self.undo()
            reason = str(error).partition("\n")[0]
            self.notify(f"cannot capture a step as a graph; the run is slower but the same: {reason}")


def tensors(batch: Batch) -> list[Tensor]:
    return [x for x in batch if isinstance(x, Tensor)]
