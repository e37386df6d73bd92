"""The learning rate as a pure function of the images seen."""

import math
from typing import NamedTuple

from twofold.errors import UsageError
from twofold.training.settings import ScheduleName, TrainingSettings


class Schedule(NamedTuple):
    """The base rate for `constant` images, then a fall over `decay` images; counts are of images.

    Attributes:
        shape: of the fall. "linear" reaches zero in a straight line (CycleGAN §7.1), "cosine" in half a cosine
            (Loshchilov and Hutter 2016, arXiv 1608.03983, without restarts), "step" multiplies the rate by `drop` when
            the fall begins and every `drop_every` images after, "constant" does not fall.
        warmup: images over which the rate rises from zero, in a straight line; it multiplies the rest.
    """

    base: float
    constant: int
    decay: int
    shape: ScheduleName = "linear"
    warmup: int = 0
    drop_every: int = 1
    drop: float = 0.1

    @property
    def total(self) -> int:
        return self.constant + self.decay

    def rate(self, images: int) -> float:
        """The learning rate of the step that starts after `images` images."""
        rise = min(1.0, (images + 1) / self.warmup) if self.warmup else 1.0
        return self.base * rise * self._fall(images - self.constant)

    def _fall(self, past: int) -> float:
        """The share of the base rate that is left `past` images after the fall began."""
        done = min(1.0, past / self.decay) if self.decay else float(past > 0)
        if past < 0 or self.shape == "constant":
            return 1.0
        match self.shape:
            case "linear":
                return 1 - done
            case "cosine":
                return (1 + math.cos(math.pi * done)) / 2
            case "step":
                return self.drop ** (1 + past // self.drop_every) if self.decay else 1.0

    def __str__(self) -> str:
        """Such as "0.0002 up to image 2,000, then linear to 0 at image 4,000"."""
        rise = f"rising over {self.warmup:,} images to " if self.warmup else ""
        if self.shape == "constant" or not self.decay:
            return f"{rise}{self.base:g} up to image {self.total:,}"
        fall = f"{self.shape} to 0 at image {self.total:,}"
        if self.shape == "step":
            fall = (
                f"times {self.drop:g} there and every {self.drop_every:,} images, up to image {self.total:,}"
            )
        return f"{rise}{self.base:g} up to image {self.constant:,}, then {fall}"


def schedule(base: float, length: TrainingSettings, epoch_images: int) -> Schedule:
    """The schedule of a run whose epoch has `epoch_images` images.

    Raises:
        UsageError: there is nothing to train, or the warm-up is longer than the run.
    """
    constant, decay, drop_every = (
        round(epochs * epoch_images) for epochs in (length.epochs, length.decay_epochs, length.step_epochs)
    )
    if constant + decay == 0:
        raise UsageError("0 epochs leave nothing to train; raise --epochs or --decay-epochs")
    if length.warmup > constant + decay:
        raise UsageError(
            f"training.warmup {length.warmup} is longer than the run of {constant + decay} images; lower it, or raise"
            " --epochs"
        )
    steps = max(1, drop_every), length.step_factor
    return Schedule(base, constant, decay, length.schedule, length.warmup, *steps)
