"""A training step as one CUDA graph: recorded once, then launched as one instead of as thousands of kernels.

A graph repeats kernels on the same memory, so that a step can be one only if nothing in it depends on a number that the
program has: what changes from step to step has to lie on the device. `Trainer` puts the learning rates, the image count
and the averages' weight there, the draws of the methods come from the device's own generator, which a graph draws from
anew, and the images are copied to where the graph looks for them. tests/training/test_capture.py holds every method to
that on a CPU, by repeating the operations of one step on the images of the next.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from twofold.methods.base import Batch

WARM_UP = 3
"""Steps of a kind that are run before one is recorded: they make moments, buffers, compiled code, cuDNN's workspaces."""

Work = Callable[[], None]


class Recorder(Protocol):
    """Runs work, and records it for repetition."""

    def run(self, work: Work) -> None:
        """Do it now."""
        ...

    def record(self, work: Work) -> Work:
        """What repeats `work` on whatever then lies where its tensors are; nothing is done yet."""
        ...


class CudaRecorder:
    """CUDA's graphs. All work goes to one stream of its own, which gradients remember."""

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
        assert self.stream is not None
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        draws = torch.cuda.default_generators[self.stream.device_index]
        seed = draws.initial_seed()
        try:
            # Other threads load images meanwhile, and may: only what this one does is recorded.
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                work()
        except RuntimeError:
            # A recording that fails ends in the middle of torch's own leaving: its stream would stay the current one, and
            # its generator would wait for a recording, and refuse to draw (pytorch #91950).
            torch.cuda.set_stream(current)
            fresh = torch.Generator(self.device).manual_seed(seed)
            draws.graphsafe_set_state(fresh.graphsafe_get_state())
            raise
        return graph.replay


class Capture:
    """Runs steps, each kind of them recorded after its first few.

    Args:
        learn: all of a step that happens on the device.
        undo: makes good what a recording that failed has left in the program.
        recorder: records it.
        say: is told if that fails.
    """

    def __init__(
        self,
        learn: Callable[[Batch], None],
        undo: Work,
        recorder: Recorder,
        notify: Callable[[str], None],
    ) -> None:
        self.learn, self.undo, self.recorder, self.notify = learn, undo, recorder, notify
        self.seen: dict[int, int] = {}
        self.recorded: dict[int, tuple[Batch, Work]] = {}
        self.failed = False

    def step(self, batch: Batch, kind: int) -> None:
        """One step on `batch`; steps of one `kind` do the same to images of the same shapes."""
        seen = self.seen[kind] = self.seen.get(kind, 0) + 1
        if seen > WARM_UP and kind not in self.recorded and not self.failed:
            self._record(batch, kind)
        recorded = self.recorded.get(kind)
        if recorded is None or not alike(recorded[0], batch):
            self.recorder.run(lambda: self.learn(batch))
            return
        mine, repeat = recorded
        for target, source in zip(tensors(mine), tensors(batch), strict=True):
            target.copy_(source)
        self.recorder.run(repeat)

    def _record(self, batch: Batch, kind: int) -> None:
        mine = Batch._make(x.clone() if isinstance(x, Tensor) else x for x in batch)
        try:
            self.recorded[kind] = mine, self.recorder.record(lambda: self.learn(mine))
        except RuntimeError as error:
            self.failed = True
            self.undo()
            reason = str(error).partition("\n")[0]
            self.notify(f"a step could not be captured as a graph, which costs time alone: {reason}")


def tensors(batch: Batch) -> list[Tensor]:
    return [x for x in batch if isinstance(x, Tensor)]


def alike(one: Batch, other: Batch) -> bool:
    """Whether both have tensors of the same shapes."""
    return [x.shape for x in tensors(one)] == [x.shape for x in tensors(other)]
