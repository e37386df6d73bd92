"""`twofold.train`: training from Python."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twofold import config as configs
from twofold.presets import layer
from twofold.runs import Notify, Run
from twofold.training import train as loop


def train(
    a: str | Path,
    b: str | Path | None = None,
    *,
    out: str | Path | None = None,
    method: str | None = None,
    preset: str | None = None,
    size: int | None = None,
    epochs: float | None = None,
    decay_epochs: float | None = None,
    batch: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    notify: Notify = lambda line: None,  # noqa: ARG005
) -> Run:
    """Train a translator between two folders of images, or resume the run in `out`.

    Args:
        a, b: the folders. For pairs, `a` alone may be a folder that holds both, or a list of them (.csv, .jsonl).
        out: the run folder; runs/A2B-METHOD by default.
        method, preset, size, epochs, decay_epochs, batch, seed, device: as on the command line.
        settings: any other setting, nested: ``{"optim": {"lr": 1e-4}}``.
        notify: receives each line that the user should read, for example `print`.

    Returns:
        The run. ``Translator.load(run.path)`` loads the trained translator.

    Raises:
        UsageError: a setting or a folder is wrong, or differs from the run in `out`.
        TwofoldError: the run could not continue.
        KeyboardInterrupt: the run was interrupted; everything is saved, and the same call resumes it.
    """
    short = {
        "method": method,
        "seed": seed,
        "data.size": size,
        "training.epochs": epochs,
        "training.decay_epochs": decay_epochs,
        "training.batch": batch,
        "machine.device": device,
    }
    overrides = configs.merge(
        layer(preset),
        configs.from_environment(),
        settings or {},
        configs.nest({path: value for path, value in short.items() if value is not None}),
        {name: Path(folder) for name, folder in (("a", a), ("b", b)) if folder is not None},
    )
    folder = Path(out) if out is not None else configs.default_out(overrides)
    if not loop.train(folder, overrides, notify):
        raise KeyboardInterrupt(f"{folder} is saved; the same call resumes it")
    return Run(folder)
