"""Problems that a run's pictures and networks show: each a function of plain arrays that gives a finding or None.

`way` is a direction, such as "A→B". Values named "healthy" are of `twofold demo` at 64 px after its first 100 images.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.evaluation.doctor.folder import number
from twofold.evaluation.doctor.symptoms import RATE, Finding, slower
from twofold.metrics.structure import UNCHANGED_LEVELS, correlation, hides_source, luminance

Pictures = NDArray[np.float32]
"""(N, H, W, 3) in [0, 1]."""

TIED = {
    "cyclegan": " If the cycle's weights were lowered, restore them: `--cyclegan.cycle-a 10 --cyclegan.cycle-b 10`.",
    "cut": " If the contrast's weight was lowered, restore it: `--cut.nce 1`.",
    "fastcut": " If the contrast's weight was lowered, restore it: `--cut.nce 10`.",
}
"""Advice by method: the loss that ties a translation to its source."""

ALIKE = 0.15
"""Translations this many times as different from each other as the pictures of either domain. Healthy: 0.8 to 1.1."""


def collapsed(
    sources: Pictures,
    translations: Pictures,
    targets: Pictures | None,
    way: str,
    method: str = "cyclegan",
    lr: float = RATE,
) -> Finding | None:
    """Different inputs give nearly equal outputs.

    Args:
        targets: pictures of the target domain, if there are any: they may all be alike.
    """
    if len(sources) < 2:
        return None
    usual = min(variety(x) for x in (sources, targets) if x is not None and len(x) > 1)
    if usual == 0 or variety(translations) > ALIKE * usual:
        return None
    return Finding(
        f"{way} collapsed",
        "trouble",
        f"{way} makes nearly the same picture of every input: its translations differ from each other"
        f" {variety(translations) / usual:.0%} as much as real pictures do.",
        f"Start a new run with {slower(lr)}." + TIED.get(method, ""),
    )


def variety(pictures: Pictures) -> float:
    """Mean absolute difference of two different pictures."""
    pairs = [np.abs(x - y).mean() for i, x in enumerate(pictures) for y in pictures[:i]]
    return float(np.mean(pairs)) if pairs else 0.0


COPIED = 0.35
"""A change below this share of what a change of colour alone would need. Healthy: at least 0.98; an image cannot get
the other domain's colours with less than 1."""


def copied(
    sources: Pictures,
    translations: Pictures,
    targets: Pictures | None,
    way: str,
    method: str = "cyclegan",
    weights: Mapping[Any, Any] | None = None,
) -> Finding | None:
    """The translation is the source; `weights` are those of the run's losses by their settings' names."""
    change = float(np.abs(translations - sources).mean())
    needed = 0.0 if targets is None else colour_distance(sources, targets)
    if change >= max(COPIED * needed, UNCHANGED_LEVELS / 255):
        return None
    return Finding(
        f"{way} copies",
        "trouble",
        f"{way} returns its input: pixels change by {255 * change:.1f} of 255 levels"
        + (f", and the other domain's colours alone are {255 * needed:.0f} levels away." if needed else "."),
        f"Start a new run with {looser(method, weights or {})}.",
    )


def looser(method: str, weights: Mapping[Any, Any]) -> str:
    """Less of the loss that keeps a translation like its source, as advice."""

    def weight(name: str, default: float) -> float:
        found = number(weights.get(name))
        return found if 0 <= found < math.inf else default

    if method in ("cut", "fastcut"):
        return f"half the contrast, `--cut.nce {weight('nce', 10 if method == 'fastcut' else 1) / 2:.3g}`"
    if identity := weight("identity", 0.5):
        return f"a smaller identity loss, `--cyclegan.identity {min(0.1, identity / 5):.2g}`"
    a, b = (weight(name, 10) / 2 for name in ("cycle_a", "cycle_b"))
    return f"half the cycle's weights, `--cyclegan.cycle-a {a:.3g} --cyclegan.cycle-b {b:.3g}`"


def colour_distance(these: NDArray[Any], those: NDArray[Any]) -> float:
    """The least mean change of a channel's values that gives `these` the histogram of `those` (Wasserstein-1)."""
    at = (np.arange(256) + 0.5) / 256
    x, y = (np.quantile(pictures.reshape(-1, pictures.shape[-1]), at, axis=0) for pictures in (these, those))
    return float(np.abs(x - y).mean())


INVERTED = -0.3
"""Mean correlation of the brightness of source and translation. Healthy: 0.5; random pictures: near 0."""

CLEARLY = 0.7
"""One distance is clearly smaller than another if it is at most this share of it. Landscapes in summer are 0.1 from those
in winter, where 1 is from black to white, and their negatives 0.3."""


def inverted(sources: Pictures, translations: Pictures, targets: Pictures | None, way: str) -> Finding | None:
    """Light became dark, and dark light, although the domains have about the same brightness.

    From bright-field to fluorescence, for example, the background must become dark: there the negatives of the
    sources have the target domain's brightness, and nothing is wrong.
    """
    if sources.shape != translations.shape or targets is None:
        return None
    pairs = zip(luminance(sources), luminance(translations), strict=True)
    mean = float(np.mean([correlation(x, y) for x, y in pairs]))
    light, dark, wanted = (luminance(x)[..., None] for x in (sources, 1 - sources, targets))
    kept, negative = colour_distance(light, wanted), colour_distance(dark, wanted)
    if not mean < INVERTED or negative <= CLEARLY * kept:
        return None
    return Finding(
        f"{way} inverts",
        "trouble" if kept <= CLEARLY * negative else "watch",
        f"{way} turns light into dark: the brightness of source and translation correlates at {mean:.2f}, and the sources"
        f" are {255 * kept:.0f} levels from the other domain's brightness, their negatives {255 * negative:.0f}.",
        "Start a new run that begins with a copy, `--generator.skips`, or with another seed, `--seed 1`.",
    )


IDENTITY = {"cyclegan": "--cyclegan.identity 0.5"} | dict.fromkeys(("cut", "fastcut"), "--cut.nce-identity")
"""Advice by method: the loss that keeps the colours of the target domain."""

OFF, FAR = 1.5, 0.08
"""Colours this many times as far from the other domain as those of untouched pictures, and at least so far, where 1 is
from black to white. Healthy: 0.1 to 0.3 times, 0.02 to 0.04 in all; four pictures alone scatter by up to 0.05."""

SWING = 0.1
"""The mean colour of the same translations moves by this much from grid to grid. Healthy: up to 0.07 before 400
images, 0.01 after."""


def colours_off(
    sources: Pictures,
    translations: Pictures,
    targets: Pictures | None,
    earlier: Sequence[Pictures],
    way: str,
    method: str = "cyclegan",
) -> Finding | None:
    """Colours move away from the target domain, or do not settle.

    Args:
        earlier: translations of the same sources in the grids before, oldest first.
    """
    before, now = (0.0 if targets is None else colour_distance(x, targets) for x in (sources, translations))
    means = np.array([grid.mean((0, 1, 2)) for grid in [*earlier, translations]])  # (grids, 3)
    step = float(np.median(np.abs(np.diff(means, axis=0)).max(1))) if len(means) > 2 else 0.0
    off = now > max(OFF * before, FAR)
    if not off and step <= SWING:
        return None
    return Finding(
        f"{way} colours {'off' if off else 'swing'}",
        "watch",
        f"{way} moves away from the other domain's colours: they are {255 * now:.0f} levels off after translation"
        f" and {255 * before:.0f} before."
        if off
        else f"{way} does not settle on its colours: they move by {255 * step:.0f} levels between sample grids.",
        f"Start a new run with an identity loss, `{IDENTITY.get(method, IDENTITY['cyclegan'])}`; if the colours swing, also"
        " average the weights: `--training.ema 1000`.",
    )


PATTERNS = {2: [(0, 2), (2, 0), (2, 2)], 4: [(0, 1), (1, 0), (1, 1), (3, 1), (2, 1), (1, 2)]}
"""By the period in pixels of the last upsampling and of the one before it: the (row, column) of the frequencies of its
pattern in one half plane, in quarters of the side."""

PEAK, OVER_SOURCE = 10.0, 4.0
"""Power at such a frequency over its neighbours', and that over the source's own. Of four photographs of
horse2zebra, the largest of eight such ratios is 2.3 in the median and 6 at most, at 64, 128 and 256 px, except one
of 12."""

VISIBLE = 0.7 / 255
"""Root mean square of the whole pattern in brightness, all its frequencies together; fainter ones are lost in 8 bits."""


def checkerboard(sources: Pictures, translations: Pictures, way: str) -> Finding | None:
    """The translations have a pattern of the upsampling's period, and the sources do not."""
    side = min(translations.shape[1:3]) // 4 * 4
    if side < 32 or sources.shape != translations.shape:
        return None
    made, real = (power(x[:, :side, :side]) for x in (translations, sources))
    (worst, worst_period), total = (0.0, 0), 0.0
    for period, places in PATTERNS.items():
        for y, x in np.array(places) * side // 4:
            ratio = peak(made, y, x)
            if ratio > OVER_SOURCE * max(1.0, peak(real, y, x)):
                worst, worst_period = max((worst, worst_period), (ratio, period))
                total += made[y, x] * (period // 2)  # with period 4, the other half plane has as much
    if worst < PEAK or math.sqrt(total) < VISIBLE:
        return None
    return Finding(
        f"{way} checkerboard",
        "watch",
        f"{way} adds a checkerboard of {worst_period} px to its pictures: {worst:.0f} times the power of neighbouring"
        " frequencies, which the sources do not have.",
        "Train longer: it fades because the discriminators see it. A new run with `--generator.upsample resize` has"
        " none from the start.",
    )


def power(pictures: Pictures) -> NDArray[np.float64]:
    """Mean power spectrum (S, S) of the brightness of (N, S, S, 3), Hann windowed, scaled to squared amplitudes."""
    grey = luminance(pictures)
    window = np.hanning(grey.shape[1] + 1)[:-1]
    window = window[:, None] * window
    grey = (grey - grey.mean((1, 2), keepdims=True)) * window
    return np.square(np.abs(np.fft.fft2(grey)) / window.sum()).mean(0)


def peak(spectrum: NDArray[np.float64], y: int, x: int) -> float:
    """Power at a frequency over the median of those 3 to 5 bins away; on an axis, of those along the axis.

    Pictures have much power along both axes, so only frequencies on the same axis compare.
    """
    side, ring, near = len(spectrum), (-5, -4, -3, 3, 4, 5), (-1, 0, 1)
    rows, columns = (near if y == 0 else ring), (near if x == 0 else ring)
    around = [spectrum[(y + i) % side, (x + j) % side] for i in rows for j in columns]
    return float(spectrum[y, x] / max(np.median(around), 1e-20))


def hidden_signal(clean: float, damaged: Mapping[str, tuple[float, float]], way: str) -> Finding | None:
    """The way back reads the source from a signal too faint to see (`hides_source`).

    Args:
        clean: the cycle's mean absolute error, in levels of 255.
        damaged: by the damage to the translation, the same error after it, and the damage's own size.
        way: such as "A→B→A".
    """
    errors = [(error, name) for name, (error, size) in damaged.items() if hides_source(clean, error, size)]
    if not errors:
        return None
    error, damage = max(errors)
    return Finding(
        f"{way} hides its source",
        "watch",
        f"{way} passes the source on in an invisible signal: after {damage} the way back errs by {error:.1f}"
        f" levels in place of {clean:.1f}.",
        "Start a new run with a weaker cycle, `--cyclegan.cycle-a 4 --cyclegan.cycle-b 4`, or without one, `--method cut`.",
    )


MEMORISED, SURELY = 0.5, 3.0
"""How far held-out images score from training images towards translations, as a share of the whole way, if the
discriminator has memorised the training images; and by how many standard errors."""


def overfitted(
    train: Sequence[float], held_out: Sequence[float], translated: Sequence[float], domain: str
) -> Finding | None:
    """A discriminator takes held-out real images for translations: Karras et al. 2020 (arXiv 2006.06676), eq. 1, r_v.

    Args:
        train, held_out, translated: its mean logit for each image; fewer than three of one are not judged.
    """
    if min(len(train), len(held_out), len(translated)) < 3:
        return None
    gap, whole = np.mean(train) - np.mean(held_out), np.mean(train) - np.mean(translated)
    error = math.hypot(np.std(train) / len(train) ** 0.5, np.std(held_out) / len(held_out) ** 0.5)
    if whole <= 0 or gap < MEMORISED * whole or gap < SURELY * error:
        return None
    return Finding(
        f"discriminator of {domain} overfits",
        "trouble" if gap > 0.8 * whole else "watch",
        f"The discriminator of {domain} has memorised its training images: real images it never saw score"
        f" {min(gap / whole, 9.99):.0%} of the way down to translations.",
        f"Start a new run that varies what it sees, `--adversarial.augment colour,translation,cutout`, or add images"
        f" of {domain}.",
    )
