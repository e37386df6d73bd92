"""The learning rate as a pure function of the images seen."""

from typing import NamedTuple

from twofold.errors import UsageError


class Schedule(NamedTuple):
    """Constant for `constant` images, then linear to zero over `decay` images (CycleGAN §7.1)."""

    base: float
    constant: int
    decay: int

    @property
    def total(self) -> int:
        return self.constant + self.decay

    def rate(self, images: int) -> float:
        """The learning rate of the step that starts after `images` images."""
        past = images - self.constant
        if past <= 0:
            return self.base
        return self.base * max(0.0, 1 - past / self.decay) if self.decay else 0.0


def schedule(base: float, epochs: float, decay_epochs: float, epoch_images: int) -> Schedule:
    """The schedule of a run whose epoch has `epoch_images` images.

    Raises:
        UsageError: there is nothing to train.
    """
    found = Schedule(base, round(epochs * epoch_images), round(decay_epochs * epoch_images))
    if found.total == 0:
        raise UsageError("0 epochs leave nothing to train; raise --epochs or --decay-epochs")
    return found
