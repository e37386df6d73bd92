"""What a run's logs and file list show: each symptom a function of plain numbers that gives a finding or None.

Series hold one value a report, oldest first; NaN stands where a report lacks the value.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """Something wrong with a run, in words for whoever trains it."""

    name: str
    """Short, such as "critic won": the same trouble always has the same one."""
    severity: Literal["trouble", "watch"]
    """trouble: going on like this wastes time. watch: it may pass, or be meant."""
    sentence: str
    """What is seen, with its figure."""
    advice: str
    """What to try next."""


LEAST_REPORTS = 8
"""Fewer say nothing: the first reports of any run are wild."""

LATE = 0.25
"""The share of the reports, the newest ones, that stands for how things are now."""

UNDECIDED = {"lsgan": 0.25, "bce": math.log(2), "hinge": 2.0}
"""A critic's loss when it says the same of everything, by adversarial loss. WGAN's has no scale."""

WON, WINNING = 0.1, 0.2
"""A critic's loss below this share of UNDECIDED: with LSGAN it errs by 0.16 a patch, and by 0.22. Runs that end well
stay above a half (`twofold demo`: 0.8 to 1); a critic of 64 channels that took four steps for each of a translator of
2 channels fell to 0.12 in 800 images."""

REFUSED = {"lsgan": 0.8, "bce": 2.0, "hinge": 0.8}
"""A translator's adversarial loss, per unit of its weight, when its critic is sure that nothing is real. LSGAN's is
then (0 - 1)² = 1, hinge's at least 1, cross-entropy's -log(0.14) = 2."""

LEARNING = 0.9
"""A translator's loss that fell below this share of what it was is still learning, whatever its critic says."""


def critic_won(
    critic: Sequence[float], generator: Sequence[float], loss: str, weight: float, side: str
) -> Finding | None:
    """The critic tells all apart and its translator makes no way against it.

    Args:
        critic, generator: their losses, report by report.
        loss: the adversarial loss's name.
        weight: of the translator's adversarial term.
        side: the domain that the critic judges, "A" or "B".
    """
    if len(critic) < LEAST_REPORTS or loss not in UNDECIDED or not weight:
        return None
    now, rival = middle(late(critic)), middle(late(generator)) / weight
    before = middle(late(generator[: -len(late(generator))])) / weight
    sure = now < WINNING * UNDECIDED[loss] and rival > REFUSED[loss]
    if not sure or rival < LEARNING * before:
        return None
    won = now < WON * UNDECIDED[loss]
    return Finding(
        f"critic of {side} {'won' if won else 'winning'}",
        "trouble" if won else "watch",
        f"The critic of {side} {'has won' if won else 'is winning'}: its loss is {now:.3f} ({UNDECIDED[loss]:.2f} would"
        f" be undecided), and the translator into {side} no longer gains on it (adversarial loss {rival:.2f}).",
        "Hold the critic back: a lower --optim.lr, a smaller --discriminator.width, --adversarial.r1 1, or"
        " --adversarial.augment colour where there are few images.",
    )


def not_finite(losses: Mapping[str, Sequence[float]], stopped: dict[int, list[str]]) -> Finding | None:
    """A loss that is no number.

    Args:
        losses: report by report; an infinity in one counts, a NaN is only a gap.
        stopped: image counts at which a training ended over it, and the losses' names.
    """
    names = [name for name, values in losses.items() if any(math.isinf(value) for value in values)]
    if not names and not stopped:
        return None
    at = f" at {max(stopped):,} images" if stopped else ""
    names = names or stopped[max(stopped)]
    return Finding(
        "not finite",
        "trouble",
        f"{listed(names)} stopped being a number{at}: the learning rate or the precision is beyond these networks.",
        "Start anew with half the --optim.lr, or with --machine.precision float32.",
    )


SPIKE = 10.0
"""A report this many times the median of those just before it stands out; in the demo 3.4 times is the most."""

BLOWN_UP = 3.0
"""The newest reports' median over that of all: a loss that rose for good."""

START = 0.1
"""The share of the reports, the first ones, whose values say nothing of the learning rate."""


def spikes(losses: Mapping[str, Sequence[float]], floors: dict[str, float]) -> Finding | None:
    """Losses that leap now and then, or have risen for good.

    Args:
        floors: by name, the value below which nothing counts as a leap: a critic that has nearly won, or a
            translator that nearly has, moves by large factors and small amounts.
    """
    leaps: dict[str, float] = {}
    risen: dict[str, float] = {}
    for name, values in losses.items():
        settled = [x for x in values[math.ceil(START * len(values)) :] if math.isfinite(x)]
        if len(settled) < LEAST_REPORTS or median(settled) <= 0:
            continue
        usual, floor = median(settled), floors.get(name, 0.0)
        if (leap := highest_leap(settled, floor)) > SPIKE:
            leaps[name] = leap
        if middle(late(settled)) > max(BLOWN_UP * usual, floor):
            risen[name] = middle(late(settled)) / usual
    found = risen or leaps
    if not found:
        return None
    worst = max(found, key=found.__getitem__)
    seen, than = ("has risen to", "what is usual in this run") if risen else ("leaps to", "what it was")
    return Finding(
        "unsteady losses",
        "trouble" if risen else "watch",
        f"{worst} {seen} {found[worst]:.0f} times {than}.",
        "Start anew with half the --optim.lr; with --machine.precision bf16, try float32 first.",
    )


def highest_leap(values: Sequence[float], floor: float) -> float:
    """The largest factor by which one above the floor exceeds the median of those just before it; 0 if there is none.

    Just before, for a loss that has fallen far was not leaping when it was high.
    """
    factors = [0.0]
    for place in range(LEAST_REPORTS // 2, len(values)):
        usual = median(values[max(0, place - LEAST_REPORTS) : place])
        if values[place] > floor and usual > 0:
            factors.append(values[place] / usual)
    return max(factors)


STARVED, HUNGRY = 0.5, 0.2
"""Shares of the time spent waiting for images. A cached run waits 0.0002 of it (two slow cores, 64 px)."""


def starved(waiting: Sequence[float], cached: bool) -> Finding | None:
    """The training waits for its images.

    Args:
        waiting: the share of the time between two reports in which no image was ready.
        cached: whether decoded images are kept.
    """
    if len(waiting) < LEAST_REPORTS:
        return None
    share = middle(late(waiting))
    if not share > HUNGRY:
        return None
    return Finding(
        "waits for images",
        "trouble" if share > STARVED else "watch",
        f"{share:.0%} of the time the training waits for images to be decoded.",
        "Raise --data.workers" + ("." if cached else ", or let it keep decoded images: --cache."),
    )


MIXED = 0.01
"""Above this share of a domain, images in both are more than a slip."""


def mixed_up(a: Sequence[str], b: Sequence[str]) -> Finding | None:
    """The same files in both domains; `a` and `b` are their hashes."""
    both = set(a) & set(b)
    if not both:
        return None
    share = len(both) / min(len(set(a)), len(set(b)))
    return Finding(
        "domains mixed up",
        "trouble" if share > MIXED else "watch",
        f"{counted(len(both), 'image')} of A {'is' if len(both) == 1 else 'are'} in B as well, byte for byte"
        f" ({share:.1%}): for those the right translation is no translation.",
        "`twofold data check A B` names them; take them out of one folder and start anew.",
    )


def leaked(train: Sequence[str], held_out: Sequence[str], side: str) -> Finding | None:
    """Held-out images that are trained on as well, by hash."""
    both = set(train) & set(held_out)
    if not both:
        return None
    return Finding(
        f"held-out images of {side} trained on",
        "watch",
        f"{counted(len(both), 'held-out image')} of {side} {'is' if len(both) == 1 else 'are'} trained on as well:"
        " what is measured on them flatters.",
        "Remove the copies from one of the folders and start anew.",
    )


def late(values: Sequence[float]) -> Sequence[float]:
    """The newest reports, at least half of LEAST_REPORTS."""
    return values[-max(LEAST_REPORTS // 2, round(LATE * len(values))) :]


def middle(values: Sequence[float]) -> float:
    """The median of those that are numbers; NaN if none is."""
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else math.nan


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
