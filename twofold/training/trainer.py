"""One training step, for any method."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch

from twofold.cpu.accelerate import accelerate
from twofold.distributed import rank, sync_gradients, world
from twofold.methods.base import Batch, Method, Update
from twofold.networks.layers import Generator
from twofold.randomness import seed32
from twofold.training.adam import Adam
from twofold.training.capture import Capture, CudaRecorder
from twofold.training.loss_sums import LossSums, counting
from twofold.training.machine import compile_networks
from twofold.training.reflection import reflect_by_parts

EMA_RAMP = 0.25
"""The averaging half-life is at most this share of the images seen, so that a young average forgets the start."""

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The precisions of autocast."""


class Trainer:
    """Holds a method, an Adam for each of its phases, the averaged generators and the loss sums.

    Args:
        method: its networks, on any device; moved to `device`.
        precision: "float32", or "bf16" or "fp16" to run the networks under autocast; weights and moments stay as they
            are. With "fp16" each phase's losses are scaled, so that small gradients do not become zero.
        disc_lr: factor of phase "D"'s learning rate (Heusel et al. 2017, arXiv 1706.08500).
        weight_decay: the share of the learning rate by which each optimizer step shrinks the weights, apart from the
            gradient (AdamW: Loshchilov and Hutter 2017, arXiv 1711.05101).
        clip: largest norm of a phase's gradients together, to which longer ones are scaled; None is no limit.
        accumulate: batches whose gradients are averaged for one optimizer step. All are taken at the weights before it,
            so a discriminator that learns first does so after the generator's losses, not before.
        ema: half-life in images of the averaged generators; 0 keeps none.
        native: on a CPU, let `cpu.accelerate` use C code; uncompiled networks are accelerated in either case.
        capture: on CUDA, launch each step as one graph; see `capture`. For images of one size, on one process.
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
        beta1: float = 0.5,
        beta2: float = 0.999,
        weight_decay: float = 0,
        clip: float | None = None,
        accumulate: int = 1,
        fused: bool = False,
        channels_last: bool = False,
        ema: float = 0,
        compiled: bool = False,
        native: bool = True,
        capture: bool = False,
        seed: int = 0,
    ) -> None:
        self.device = torch.device(device)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.method = method.to(self.device, memory_format=self.layout).train()  # pyright: ignore[reportCallIssue]
        if self.device.type == "cpu" and not compiled:
            accelerate(self.method, native)
        in_layout = channels_last and not compiled  # torch's compiler needs no help
        if self.device.type != "cpu" and (in_layout or torch.are_deterministic_algorithms_enabled()):
            reflect_by_parts(self.method)
        self.precision, self.seed, self.ema = precision, seed, ema
        self.clip, self.accumulate = clip, accumulate
        self.accumulated = 0
        """Batches of the present optimizer step so far; 0 between steps."""
        self.rate_factors = {phase: disc_lr if phase == "D" else 1.0 for phase in method.phases}
        self.images = 0
        self.params = {
            phase: [p for name in names for p in method.get_submodule(name).parameters() if p.requires_grad]
            for phase, names in method.phases.items()
        }
        self.optimizers = {
            phase: Adam(
                params,
                lr=torch.tensor(lr, device=self.device) if capture else lr,
                betas=(beta1, beta2),
                weight_decay=weight_decay,
                decoupled_weight_decay=True,
                fused=fused,
                capturable=capture and self.device.type == "cuda",
            )
            for phase, params in self.params.items()
        }
        self.scalers = {
            phase: torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
            for phase in method.phases
        }
        self.averages = {
            name: copy.deepcopy(method.get_submodule(name)).requires_grad_(False)
            for name in method.translators.values()
            if ema
        }
        self.sums = LossSums(self.device)
        self.images_seen = torch.zeros((), device=self.device, dtype=counting(self.device))
        self.ema_weight = torch.zeros((), device=self.device)
        self.compiled = compiled
        if compiled:
            compile_networks(method)
        self.capture = None
        if capture:
            self.capture = Capture(self._learn, CudaRecorder(self.device))

    def step(self, batch: Batch, lr: float) -> None:
        """Train on one batch (this rank's share of it).

        With `accumulate`, every so many calls make one optimizer step; its learning rate is that of the first of them.

        Args:
            lr: the generators' learning rate.
        """
        torch.manual_seed(seed32("step", self.seed, rank(), self.images))
        a, b = (x.contiguous(memory_format=self.layout) for x in (batch.a, batch.b))
        count = len(a) * world()
        if not self.accumulated:
            self.number = self.images // (count * self.accumulate)
            self._set_step_values(lr, count * self.accumulate)
        self.images_seen.fill_(self.images)
        batch = batch._replace(a=a, b=b, number=self.number)
        if self.capture is None:
            self._learn(batch)
        else:
            self.capture.step(batch, kind=self.method.generators_learn(batch.number))
        self.images += count
        self.accumulated = (self.accumulated + 1) % self.accumulate

    def _set_step_values(self, lr: float, count: int) -> None:
        """Put the numbers that change from step to step where `_learn` reads them: on the device."""
        for phase, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                rate = lr * self.rate_factors[phase]
                group["lr"] = group["lr"].fill_(rate) if self.capture else rate
        if self.averages:
            halflife = min(self.ema, (self.images + count) * EMA_RAMP)
            self.ema_weight.fill_(1 - 0.5 ** (count / halflife))

    def _learn(self, batch: Batch) -> None:
        """The part of a step that runs on the device. A graph captures it, so it uses no Python number that changes."""
        updates, at_once = self.method.step(batch), self.accumulate == 1
        while (update := self._next(updates)) is not None:
            phase, losses, complete = update
            if losses:
                total = torch.stack(list(losses.values())).sum()
                total = total if at_once else total / self.accumulate
                self.scalers[phase].scale(total).backward(inputs=self.params[phase])
                self.sums.add(losses, self.images_seen)
            if complete and at_once:
                self._update(phase)
        if at_once:
            self._average()
        elif self.accumulated == self.accumulate - 1:
            for phase, params in self.params.items():
                if any(param.grad is not None for param in params):  # between them, only discriminators learn
                    self._update(phase)
            self._average()

    def _update(self, phase: str) -> None:
        """Step one phase's optimizer; the scaler leaves out a step whose gradients are not finite."""
        params, optimizer, scaler = self.params[phase], self.optimizers[phase], self.scalers[phase]
        sync_gradients(params)
        scaler.unscale_(optimizer)
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(params, self.clip)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def _next(self, updates: Iterator[Update]) -> Update | None:
        """Run the method up to its next update: forward passes under autocast, backward passes outside it."""
        half = HALVES.get(self.precision)
        with torch.autocast(self.device.type, half) if half else nullcontext():
            return next(updates, None)

    @torch.no_grad()
    def _average(self) -> None:
        for name, average in self.averages.items():
            network = self.method.get_submodule(name)
            for averaged, trained in zip(average.parameters(), network.parameters(), strict=True):
                averaged.lerp_(trained, self.ema_weight.to(averaged.dtype))
            for averaged, trained in zip(average.buffers(), network.buffers(), strict=True):
                averaged.copy_(trained)

    def uncompiled(self) -> AbstractContextManager[None]:
        """For translating between steps: images of other sizes would make torch compile again."""
        return torch.compiler.set_stance("force_eager") if self.compiled else nullcontext()

    def generator(self, direction: str) -> Generator:
        """The network that is saved for a direction: the averaged one where there is one."""
        name = self.method.translators[direction]
        network = self.averages.get(name) or self.method.get_submodule(name)
        assert isinstance(network, Generator)
        return network
