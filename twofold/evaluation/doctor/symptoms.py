"""Problems that a run's logs and file list show: each a function of plain numbers that gives a finding or None.

A series holds one value per report, oldest first, with NaN where a report lacks the value.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """Something wrong with a run.

    Attributes:
        name: short, such as "discriminator of B won"; the same for the same problem.
        severity: "trouble" if going on wastes time; "watch" if it may pass or be intended.
        sentence: what is wrong, with its evidence; `advice` says what to try next.
    """

    name: str
    severity: Literal["trouble", "watch"]
    sentence: str
    advice: str


LEAST_REPORTS = 8
"""Fewer reports are not judged: the first ones of any run are extreme."""

LATE = 0.25
"""The share of the reports, the newest ones, that stands for the present."""

UNDECIDED = {"lsgan": 0.25, "bce": math.log(2), "hinge": 2.0}
"""A discriminator's loss when it gives every image the same score, by adversarial loss. WGAN's has no scale."""

WON, WINNING = 0.1, 0.2
"""A discriminator's loss below this share of UNDECIDED: with LSGAN it errs by 0.16 a patch, and by 0.22. Runs that
end well stay above a half (`twofold demo`: 0.8 to 1); a discriminator of 64 channels that took four steps for each of
a generator of 2 channels fell to 0.12 in 800 images."""

REJECTED = {"lsgan": 0.8, "bce": 2.0, "hinge": 0.8}
"""A generator's adversarial loss, per unit of its weight, when its discriminator takes nothing for real. LSGAN's is
then (0 - 1)² = 1, hinge's at least 1, cross-entropy's -log(0.14) = 2."""

LEARNING = 0.9
"""A generator whose loss fell below this share of its earlier value still learns, whatever its discriminator does."""


def discriminator_won(
    disc: Sequence[float], generator: Sequence[float], loss: str, weight: float, domain: str
) -> Finding | None:
    """The discriminator recognises every translation, and its generator does not improve.

    Args:
        disc, generator: their losses; `loss` is the name of the adversarial one.
        weight: of the generator's adversarial term.
        domain: that the discriminator judges, "A" or "B".
    """
    if len(disc) < LEAST_REPORTS or loss not in UNDECIDED or not weight:
        return None
    undecided, recent = UNDECIDED[loss], late(generator)
    now, rival = finite_median(late(disc)), finite_median(recent) / weight
    before = finite_median(late(generator[: -len(recent)])) / weight
    beaten = now < WINNING * undecided and rival > REJECTED[loss]
    if not beaten or rival < LEARNING * before:
        return None
    won = now < WON * undecided
    return Finding(
        f"discriminator of {domain} {'won' if won else 'winning'}",
        "trouble" if won else "watch",
        f"The discriminator of {domain} {'has won' if won else 'is winning'}: its loss is {now:.3f}"
        f" ({undecided:.2f} is undecided), and the generator into {domain} does not improve against it"
        f" (adversarial loss {rival:.2f}).",
        "Start a new run with a weaker discriminator: `--adversarial.r1 1`, or `--adversarial.augment colour` where"
        " there are few images.",
    )


RATE = 2e-4
"""The default learning rate."""

HUGE = 1e6
"""A loss above this has diverged, although it is finite."""


def not_finite(
    losses: Mapping[str, Sequence[float]], stopped: dict[int, list[str]], lr: float = RATE
) -> Finding | None:
    """A loss that is above `HUGE` or not a finite number.

    Args:
        losses: by name; an infinity counts, a NaN is only a gap.
        stopped: names of losses by the image count at which the run ended because of them.
    """
    names = [name for name, values in losses.items() if any(abs(value) > HUGE for value in values)]
    if not names and not stopped:
        return None
    at = f" after image {max(stopped):,}" if stopped else ""
    names = names or stopped[max(stopped)]
    finite = not stopped and not any(math.isinf(value) for name in names for value in losses[name])
    diverged = f"rose above {HUGE:,.0f}" if finite else "stopped being finite"
    return Finding(
        "not finite",
        "trouble",
        f"{', '.join(names)} {diverged}{at}: the learning rate is too high, or the precision too low, for"
        " these networks.",
        f"Start a new run with {slower(lr)}, or with `--machine.precision float32`.",
    )


SPIKE = 10.0
"""A report this many times the median of those just before it; in the demo 3.4 times is the most."""

BLOWN_UP = 3.0
"""The newest reports' median over that of all: a loss that rose and stayed high."""

START = 0.1
"""The share of the reports, the first ones, whose values say nothing about the learning rate."""


def spikes(
    losses: Mapping[str, Sequence[float]], floors: Mapping[str, float], lr: float = RATE
) -> Finding | None:
    """Losses that jump now and then, or rose and stayed high.

    Args:
        floors: by name, the value below which nothing counts as a jump: a discriminator that has nearly won, or a
            generator that nearly has, moves by large factors and small amounts.
    """
    found: list[tuple[bool, float, str]] = []  # whether it stayed high, by which factor, and its name
    for name, values in losses.items():
        settled = [x for x in values[math.ceil(START * len(values)) :] if math.isfinite(x)]
        if len(settled) < LEAST_REPORTS or median(settled) <= 0:
            continue
        usual, now, floor = median(settled), median(late(settled)), floors.get(name, 0.0)
        if now > max(BLOWN_UP * usual, floor):
            found.append((True, now / usual, name))
        elif (jump := largest_jump(settled, floor)) > SPIKE:
            found.append((False, jump, name))
    if not found:
        return None
    risen, factor, worst = max(found)
    change = (
        f"has risen to {factor:.0f} times this run's" if risen else f"jumps to {factor:.0f} times its recent"
    )
    return Finding(
        "unsteady losses",
        "trouble" if risen else "watch",
        f"{worst} {change} median.",
        f"Start a new run with {slower(lr)}; if it used bf16, try `--machine.precision float32` first.",
    )


def largest_jump(values: Sequence[float], floor: float) -> float:
    """The largest factor by which a value above the floor exceeds the median of those just before it; 0 if none does.

    Only those just before count, because a loss that has fallen far did not jump when it was high.
    """
    factors = [0.0]
    for place in range(LEAST_REPORTS // 2, len(values)):
        usual = median(values[max(0, place - LEAST_REPORTS) : place])
        if values[place] > floor and usual > 0:
            factors.append(values[place] / usual)
    return max(factors)


STARVED, HUNGRY = 0.5, 0.2
"""Shares of the time spent waiting for images. A cached run waits 0.0002 of it (two slow cores, 64 px)."""


def slow_loading(waiting: Sequence[float], cached: bool) -> Finding | None:
    """The run waits for its images.

    Args:
        waiting: the share of the time between two reports in which no image was ready.
    """
    share = finite_median(late(waiting)) if len(waiting) >= LEAST_REPORTS else 0.0
    if not share > HUNGRY:
        return None
    return Finding(
        "waits for images",
        "trouble" if share > STARVED else "watch",
        f"{share:.0%} of the time the run waits for images to be decoded.",
        "Resume it with more threads: `--data.workers 8`"
        + ("." if cached else ", or keep decoded images: `--cache`."),
    )


def slower(lr: float) -> str:
    """Half of a learning rate, as advice."""
    return f"half the learning rate, `--lr {lr / 2:.3g}`"


def late(values: Sequence[float]) -> Sequence[float]:
    """The newest reports, at least half of LEAST_REPORTS."""
    return values[-max(LEAST_REPORTS // 2, round(LATE * len(values))) :]


def finite_median(values: Sequence[float]) -> float:
    """The median of the finite values; NaN if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else math.nan


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
