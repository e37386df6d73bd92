"""One training step, for any method."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from twofold.cpu.accelerate import accelerate
from twofold.distributed import rank, sync_gradients, world
from twofold.methods.base import Batch, Method, Update
from twofold.networks.layers import Generator
from twofold.randomness import seed32
from twofold.training.adam import Adam
from twofold.training.capture import Capture, CudaRecorder
from twofold.training.compiled import compile_networks, eagerly
from twofold.training.deterministic import make_reflection_deterministic
from twofold.training.loss_sums import LossSums, counting

EMA_RAMP = 0.25
"""The averaging half-life is at most this share of the images seen, so that a young average forgets the start."""


class Trainer:
    """Holds a method, an Adam for each of its phases, the averaged generators and the loss sums.

    Args:
        method: its networks, on any device; moved to `device`.
        precision: "float32", or "bf16" to run the networks under autocast; weights and moments stay as they are.
        critic_lr: rate of the phase "D" as a multiple of the others' (Heusel et al. 2017, arXiv 1706.08500).
        ema: half-life in images of the averaged generators; 0 keeps none.
        compiled: run the networks as torch's compiler makes them; see `compiled`.
        kernels: on a CPU, let `cpu.accelerate` use C code; uncompiled networks are accelerated in either case.
        captured: on CUDA, launch each step as one graph; see `capture`. For images of one size, on one process.
        say: is told what the user should know.
        seed: with the rank and the image count, the key of each step's random draws.
    """

    def __init__(
        self,
        method: Method,
        *,
        device: torch.device | str = "cpu",
        precision: str = "float32",
        lr: float = 2e-4,
        disc_lr: float = 1.0,
        betas: tuple[float, float] = (0.5, 0.999),
        fused: bool = False,
        channels_last: bool = False,
        ema: float = 0,
        compiled: bool = False,
        kernels: bool = True,
        captured: bool = False,
        notify: Callable[[str], None] = lambda line: None,  # noqa: ARG005
        seed: int = 0,
    ) -> None:
        self.device = torch.device(device)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.method = method.to(self.device, memory_format=self.layout).train()  # pyright: ignore[reportCallIssue]
        if self.device.type == "cpu" and not compiled:
            accelerate(self.method, kernels)
        elif self.device.type != "cpu" and torch.are_deterministic_algorithms_enabled():
            make_reflection_deterministic(self.method)
        self.precision, self.seed, self.ema = precision, seed, ema
        self.rates = {phase: disc_lr if phase == "D" else 1.0 for phase in method.phases}
        self.images = 0
        self.params = {phase: trainable(method, names) for phase, names in method.phases.items()}
        self.optimizers = {
            phase: Adam(
                params,
                lr=torch.tensor(lr, device=self.device) if captured else lr,
                betas=betas,
                fused=fused,
                capturable=captured and self.device.type == "cuda",
            )
            for phase, params in self.params.items()
        }
        self.averages = {
            name: copy.deepcopy(method.get_submodule(name)).requires_grad_(False)
            for name in method.translators.values()
            if ema
        }
        self.sums = LossSums(self.device)
        self.now = torch.zeros((), device=self.device, dtype=counting(self.device))
        self.forgetting = torch.zeros((), device=self.device)
        self.compiled = compiled
        if compiled:
            compile_networks(method)
        self.capture = None
        if captured:
            self.capture = Capture(self._learn, self._drop_gradients, CudaRecorder(self.device), notify)

    def step(self, batch: Batch, lr: float) -> None:
        """Train on one batch (this rank's share of it); the generators' learning rate is `lr`."""
        torch.manual_seed(seed32("step", self.seed, rank(), self.images))
        a, b = (x.contiguous(memory_format=self.layout) for x in (batch.a, batch.b))
        count = len(a) * world()
        batch = batch._replace(a=a, b=b, turn=self.images // count)
        self._set(lr, count)
        if self.capture is None:
            self._learn(batch)
        else:
            self.capture.step(batch, kind=batch.turn % self.method.period)
        self.images += count

    def _set(self, lr: float, count: int) -> None:
        """Put what changes from step to step where `_learn` finds it."""
        self.now.fill_(self.images)
        for phase, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                rate = lr * self.rates[phase]
                group["lr"] = group["lr"].fill_(rate) if self.capture else rate
        if self.averages:
            halflife = min(self.ema, (self.images + count) * EMA_RAMP)
            self.forgetting.fill_(1 - 0.5 ** (count / halflife))

    def _learn(self, batch: Batch) -> None:
        """All of a step that happens on the device; a graph captures it, so it takes no number from the program."""
        updates = self.method.step(batch)
        while (update := self._next(updates)) is not None:
            phase, losses, complete = update
            params, optimizer = self.params[phase], self.optimizers[phase]
            if losses:
                torch.stack(list(losses.values())).sum().backward(inputs=params)
                self.sums.add(losses, self.now)
            if not complete:
                continue
            sync_gradients(params)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._average()

    def _next(self, updates: Iterator[Update]) -> Update | None:
        """Run the method up to its next update: forward passes under autocast, backward passes outside it."""
        bf16 = torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with bf16:
            return next(updates, None)

    def _drop_gradients(self) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _average(self) -> None:
        for name, average in self.averages.items():
            network = self.method.get_submodule(name)
            for mine, its in zip(average.parameters(), network.parameters(), strict=True):
                mine.lerp_(its, self.forgetting.to(mine.dtype))
            for mine, its in zip(average.buffers(), network.buffers(), strict=True):
                mine.copy_(its)

    def looking(self) -> AbstractContextManager[None]:
        """To be entered where the generators translate between steps: on images of other sizes nothing is compiled."""
        return eagerly() if self.compiled else nullcontext()

    def generator(self, direction: str) -> Generator:
        """The network that ships for a direction: the averaged one where there is one."""
        name = self.method.translators[direction]
        network = self.averages.get(name) or self.method.get_submodule(name)
        assert isinstance(network, Generator)
        return network


def trainable(method: Method, names: tuple[str, ...]) -> list[Tensor]:
    """The parameters of these networks that take gradients, in the order of the networks."""
    return [p for name in names for p in method.get_submodule(name).parameters() if p.requires_grad]
