"""In words: by which metrics the translations are better or worse than the untouched sources, and by which neither."""

import math
from collections.abc import Sequence

import numpy as np

from twofold.evaluation.measures import Measure
from twofold.evaluation.table import Column, Table, as_text
from twofold.metrics.distribution import FEWEST, Estimate, difference, mean_estimate


def differences(pairs: Sequence[tuple[Measure, Measure]], table: Table) -> dict[str, Estimate]:
    """Translated less untouched, by column. Values of images are compared image by image, those of sets by interval.

    Args:
        pairs: each measure of the translations and the same of the untouched sources.
    """
    made, before = (row.values for row in table.rows[:2])
    found = {}
    for measure, floor in pairs:
        one, other = measure.of_images(), floor.of_images()
        for name, _ in measure.columns:
            if name in one:
                x, y = np.array(one[name]), np.array(other[name])
                found[name] = mean_estimate(np.where(x == y, 0.0, x - y), "difference", name)
            else:
                found[name] = difference(made[name], before[name])
    return found


def verdict(columns: Sequence[Column], found: dict[str, Estimate], images: int) -> str:
    """One sentence about all differences; an interval that holds 0 shows none."""
    if not found:
        return ""
    better = {column.name: column.better for column in columns}
    named = {name: f"{name} ({signed(each)})" for name, each in found.items()}
    infinite = [name for name, each in found.items() if not math.isfinite(each.value)]
    unknown = [name for name, each in found.items() if each.low is None and name not in infinite]
    shown = [name for name in found if excludes_zero(found[name])]
    gained = [name for name in shown if (found[name].value > 0) == (better[name] == "higher")]
    groups = {
        "better by ": gained,
        "worse by ": [name for name in shown if name not in gained],
        "no difference shown by ": [name for name in found if name not in shown + infinite + unknown],
        "no verdict, as an image equals its answer, by ": infinite,
        f"too few images ({images}, {FEWEST} or more needed) for a verdict by ": unknown,
    }
    parts = [words + ", ".join(named[name] for name in names) for words, names in groups.items() if names]
    return f"Against the untouched sources: {'; '.join(parts)}."


def excludes_zero(estimate: Estimate) -> bool:
    low, high = estimate.low, estimate.high
    return low is not None and high is not None and (low > 0 or high < 0)


def signed(estimate: Estimate) -> str:
    text = as_text(estimate)
    return text if text.startswith("-") or estimate.value == 0 else f"+{text}"
