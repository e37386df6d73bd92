"""Published recipes by name: settings, and beside each where they come from.

The defaults themselves are CycleGAN's recipe for 256 px photographs (arXiv 1703.10593, §4, §7 and the authors'
code): batch 1, Adam 2e-4 with β = (0.5, 0.999), 100 + 100 epochs, λ = 10, identity 0.5 λ, 50 images replayed.
"""

import difflib
from typing import Any, NamedTuple

from twofold.errors import UsageError


class Preset(NamedTuple):
    """What a recipe sets, and its source."""

    settings: dict[str, Any]
    what: str
    source: str


TABLE_4 = "CycleGAN, arXiv 1703.10593, §5.1.4, tables 4 and 5"

PRESETS: dict[str, Preset] = {
    "cyclegan": Preset(
        {"cyclegan": {"cycle_a": 10, "cycle_b": 10, "identity": 0.5, "replay": 50}},
        "the paper's full objective, with the identity loss",
        "CycleGAN, arXiv 1703.10593, §4 and §5.2; identity 0.5 from the authors' code",
    ),
    "cycle-alone": Preset(
        {"cyclegan": {"gan_ab": 0, "gan_ba": 0, "identity": 0}}, "ablation: both cycles, no critics", TABLE_4
    ),
    "gan-alone": Preset(
        {"cyclegan": {"cycle_a": 0, "cycle_b": 0, "identity": 0}},
        "ablation: both critics, no cycles",
        TABLE_4,
    ),
    "gan-forward": Preset(
        {"cyclegan": {"cycle_b": 0, "identity": 0}}, "ablation: both critics and the cycle A→B→A", TABLE_4
    ),
    "gan-backward": Preset(
        {"cyclegan": {"cycle_a": 0, "identity": 0}}, "ablation: both critics and the cycle B→A→B", TABLE_4
    ),
    "seasons": Preset(
        {
            "data": {"size": 64, "load_size": 64},
            "generator": {"network": "resnet-6", "width": 24, "upsample": "resize", "skips": True},
            "discriminator": {"width": 32},
            "cyclegan": {"cycle_a": 2, "cycle_b": 2, "identity": 0},
            "optim": {"lr": 6e-4},
            "training": {
                **{"epochs": 2.25, "decay_epochs": 1.75, "batch": 2, "ema": 300},
                **{"samples": 3, "sample_every": 200, "report_every": 20},
            },
        },
        "small and quick: what `twofold demo` trains on the built-in pictures",
        "chosen by measurement, docs/LOG.md",
    ),
}


def layer(name: str | None) -> dict[str, Any]:
    """The settings of a preset, which is named in them; none for None.

    Raises:
        UsageError: there is no such preset.
    """
    if name is None:
        return {}
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PRESETS)}"
        raise UsageError(f"there is no preset {name}; {hint}")
    return {"preset": name, **PRESETS[name].settings}
