"""What a run's pictures and networks show: each symptom a function of plain arrays that gives a finding or None.

Pictures are float32 (N, H, W, C) in [0, 1]. Figures named "healthy" below are of `twofold demo` at 64 px, from its
hundredth image to its end.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twofold.evaluation.doctor.symptoms import Finding

Pictures = NDArray[np.float32]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)

ALIKE = 0.15
"""Translations this many times as different from each other as the pictures of either domain: one picture for all.
Healthy: 0.8 to 1.1."""


def collapsed(
    sources: Pictures, translations: Pictures, targets: Pictures | None, way: str
) -> Finding | None:
    """Different inputs come out nearly equal.

    Args:
        targets: pictures of the domain translated into, where there are any: they may all look alike.
        way: such as "A→B".
    """
    if len(sources) < 2:
        return None
    usual = variety(sources)
    if targets is not None and len(targets) > 1:
        usual = min(usual, variety(targets))
    if usual == 0 or variety(translations) > ALIKE * usual:
        return None
    return Finding(
        f"{way} collapsed",
        "trouble",
        f"{way} makes nearly the same picture of everything: its translations differ from each other"
        f" {variety(translations) / usual:.0%} as much as real pictures do.",
        "Start anew with half the --optim.lr, or a stronger cycle (--cyclegan.cycle-a and -b, --cut.nce); check that"
        " the folder translated into is varied: `twofold data check`.",
    )


COPIED = 0.35
"""A change below this share of what recolouring alone would need. Healthy: at least 0.98; an image cannot come to
have the other domain's colours with less than 1."""

UNTOUCHED = 2 / 255
"""A mean change below this is none to the eye, whatever the domains."""


def copied(sources: Pictures, translations: Pictures, targets: Pictures | None, way: str) -> Finding | None:
    """The translation is the source again."""
    change = float(np.abs(translations - sources).mean())
    needed = 0.0 if targets is None else colour_distance(sources, targets)
    if change >= max(COPIED * needed, UNTOUCHED):
        return None
    return Finding(
        f"{way} copies",
        "trouble",
        f"{way} gives back its input: pixels change by {255 * change:.1f} of 255 levels"
        + (f", where the other domain's colours alone are {255 * needed:.0f} away." if needed else "."),
        "Lower what ties the output to the input: --cyclegan.identity 0.1 or 0, then a smaller --cyclegan.cycle-a and"
        " -b (--cut.nce for CUT); if the critics' losses stay near undecided as well, train longer.",
    )


INVERTED = -0.3
"""Mean correlation of the brightness of source and translation. Healthy: 0.5; two pictures chosen at random: near 0."""


def inverted(sources: Pictures, translations: Pictures, way: str) -> Finding | None:
    """Light has become dark, and dark light."""
    if sources.shape != translations.shape:
        return None
    found = [correlation(x @ LUMA, y @ LUMA) for x, y in zip(sources, translations, strict=True)]
    if not np.mean(found) < INVERTED:
        return None
    return Finding(
        f"{way} inverts",
        "trouble",
        f"{way} turns light into dark: the brightness of source and translation correlates at {np.mean(found):.2f}.",
        "The cycle is content with a negative. Start anew with another --seed, with --cyclegan.identity 0.5, or with"
        " --generator.skips (CycleGAN), which start from a copy.",
    )


ASTRAY, FAR = 1.5, 0.08
"""Colours this many times as far from the other domain as untouched pictures are, and that far in all, 1 being from
black to white. Healthy: 0.1 to 0.3 times, 0.02 to 0.04 in all; four pictures alone scatter by up to 0.05."""

RESTLESS = 0.1
"""The mean colour of the same translations moves by this much from grid to grid. Healthy: up to 0.07 before 400
images, 0.01 after."""


def colours_off(
    sources: Pictures, translations: Pictures, targets: Pictures | None, earlier: Sequence[Pictures], way: str
) -> Finding | None:
    """Colours wander off, or do not settle.

    Args:
        earlier: translations of the same sources in the grids before, oldest first.
    """
    advice = (
        "Give the colours something to hold on to: --cyclegan.identity 0.5 (--cut.nce-identity for CUT); if they"
        " swing, half the --optim.lr and --training.ema 1000."
    )
    before, now = (
        (0.0, 0.0)
        if targets is None
        else (colour_distance(sources, targets), colour_distance(translations, targets))
    )
    if now > max(ASTRAY * before, FAR):
        return Finding(
            f"{way} colours off",
            "watch",
            f"{way} leads away from the other domain's colours: they are {255 * now:.0f} levels off after"
            f" translation and {255 * before:.0f} before.",
            advice,
        )
    means = np.array([grid.mean((0, 1, 2)) for grid in [*earlier, translations]])  # (grids, C)
    steps = np.abs(np.diff(means, axis=0)).max(1) if len(means) > 2 else np.zeros(1)
    if float(np.median(steps)) > RESTLESS:
        return Finding(
            f"{way} colours swing",
            "watch",
            f"{way} does not settle on its colours: from one sample grid to the next they move by"
            f" {255 * float(np.median(steps)):.0f} levels.",
            advice,
        )
    return None


PERIODS = (2, 4)
"""Pixels after which the pattern of one doubling, and of the one before it, repeats."""

PEAK, OVER_SOURCE = 10.0, 4.0
"""Power at such a frequency over its neighbours', and that over the source's own. Of four photographs of
horse2zebra, the largest of eight such ratios is 2.3 in the middle and 6 at most, at 64, 128 and 256 px, bar one
of 12."""

VISIBLE = 0.7 / 255
"""Root mean square of the whole pattern in brightness, all its frequencies together; fainter ones are lost in 8 bits."""


def checkerboard(sources: Pictures, translations: Pictures, way: str) -> Finding | None:
    """A pattern of the doublings' period lies over the translations and not over the sources."""
    side = min(translations.shape[1:3]) // 4 * 4
    if side < 32 or sources.shape != translations.shape:
        return None
    mine, its = (power(x[:, :side, :side]) for x in (translations, sources))
    standing = [
        (ratio, period, (y, x))
        for y, x, period in grid_frequencies(side)
        if (ratio := peak(mine, y, x)) > OVER_SOURCE * max(1.0, peak(its, y, x))
    ]
    worst, period, _ = max(standing, default=(0.0, 0, (0, 0)))
    doubled = (
        mine[at] * (1 if {*at} <= {0, side // 2} else 2) for *_, at in standing
    )  # by the other half plane
    if worst < PEAK or math.sqrt(sum(doubled)) < VISIBLE:
        return None
    return Finding(
        f"{way} checkerboard",
        "watch",
        f"{way} lays a checkerboard of {period} px over its pictures: {worst:.0f} times its neighbouring frequencies,"
        " which the sources lack.",
        "It fades with training, since critics see it; --generator.upsample resize does without it from the start.",
    )


def grid_frequencies(side: int) -> list[tuple[int, int, int]]:
    """(row, column, period in pixels) of every frequency of a doubling's pattern, in the half plane that counts."""
    found = []
    for period in PERIODS:
        step = side // period
        found += [(0, step, period), (step, 0, period), (step, step, period)]
    return [*found, (side - side // 4, side // 4, 4), (side // 2, side // 4, 4), (side // 4, side // 2, 4)]


def power(pictures: Pictures) -> NDArray[np.float64]:
    """Mean power spectrum of the brightness (N, S, S, C), Hann windowed, scaled to squared amplitudes."""
    grey = brightness(pictures).astype(np.float64)
    window = np.hanning(grey.shape[1] + 1)[:-1]
    window = window[:, None] * window
    grey = (grey - grey.mean((1, 2), keepdims=True)) * window
    return np.square(np.abs(np.fft.fft2(grey)) / window.sum()).mean(0)


def peak(spectrum: NDArray[np.float64], y: int, x: int) -> float:
    """Power at a frequency over the median of those 3 to 5 bins away; on an axis, of those along the axis.

    Pictures have much power along both axes, so only what lies on the same one compares.
    """
    side, ring, near = len(spectrum), (-5, -4, -3, 3, 4, 5), (-1, 0, 1)
    rows, columns = (near if y == 0 else ring), (near if x == 0 else ring)
    around = [spectrum[(y + i) % side, (x + j) % side] for i in rows for j in columns]
    return float(spectrum[y, x] / max(np.median(around), 1e-20))


HIDDEN, AMPLIFIED = 1.5, 2.0
"""A cycle's error after faint damage to the translation, over that without, and the rise over the damage's own size.
Healthy: 1.05 and 0.3 with noise, 1.1 and 0.25 with JPEG."""


def hidden_signal(clean: float, worn: dict[str, tuple[float, float]], way: str) -> Finding | None:
    """The way back reads the source from something too faint to see (Chu et al. 2017, arXiv 1712.02950).

    Args:
        clean: mean |there and back - source|.
        worn: by what was done to the translation, the same error then, and the mean change of the translation.
        way: such as "A→B→A".
    """
    told = {
        damage: error
        for damage, (error, size) in worn.items()
        if error > max(HIDDEN * clean, clean + AMPLIFIED * size)
    }
    if not told:
        return None
    damage = max(told, key=told.__getitem__)
    return Finding(
        f"{way} hides its source",
        "watch",
        f"{way} passes the source on in an invisible signal: after {damage} the way back errs by"
        f" {255 * told[damage]:.1f} levels in place of {255 * clean:.1f}.",
        "The cycle loss says less than it seems. Lower --cyclegan.cycle-a and -b (to 2 or 4), or try --method cut, which"
        " has no cycle; vary what is trained on with --data.jitter 0.1.",
    )


LEARNT_BY_HEART, SURELY = 0.5, 3.0
"""The share of the way from translated to training images at which held-out ones lie short of the latter, to a
critic that knows the training images by heart; and how many standard errors it must be."""


def overfitted(
    train: Sequence[float], held_out: Sequence[float], translated: Sequence[float], side: str
) -> Finding | None:
    """A critic takes held-out real images for translations: Karras et al. 2020 (arXiv 2006.06676), equation 1, r_v.

    Args:
        train, held_out, translated: its mean logit for each image, three or more of each.
    """
    if min(len(train), len(held_out), len(translated)) < 3:
        return None
    gap, reach = np.mean(train) - np.mean(held_out), np.mean(train) - np.mean(translated)
    error = math.hypot(np.std(train) / len(train) ** 0.5, np.std(held_out) / len(held_out) ** 0.5)
    if reach <= 0 or gap < LEARNT_BY_HEART * reach or gap < SURELY * error:
        return None
    return Finding(
        f"critic of {side} overfits",
        "trouble" if gap > 0.8 * reach else "watch",
        f"The critic of {side} knows its training images by heart: real ones that it never saw score"
        f" {min(gap / reach, 9.99):.0%} of the way down to translations.",
        f"Show it variation: --adversarial.augment colour translation cutout; or find more images of {side}, or stop"
        " at an earlier snapshot.",
    )


def brightness(pictures: Pictures) -> Pictures:
    """(..., C) to (...): luma of three channels, else the first."""
    return pictures @ LUMA if pictures.shape[-1] == 3 else pictures[..., 0]


def variety(pictures: Pictures) -> float:
    """Mean absolute difference of two different pictures."""
    pairs = [np.abs(x - y).mean() for i, x in enumerate(pictures) for y in pictures[:i]]
    return float(np.mean(pairs)) if pairs else 0.0


def colour_distance(these: Pictures, those: Pictures) -> float:
    """The least mean change of a channel's values that gives `these` the histogram of `those` (Wasserstein-1)."""
    at = (np.arange(256) + 0.5) / 256
    each = [np.abs(np.quantile(these[..., c], at) - np.quantile(those[..., c], at)).mean() for c in range(3)]
    return float(np.mean(each))


def correlation(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """Pearson's, of all pixels; 0 where one of them is flat."""
    x, y = x - x.mean(), y - y.mean()
    size = math.sqrt(float((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / size if size > 1e-6 else 0.0
