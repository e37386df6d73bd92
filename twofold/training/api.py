"""`twofold.train`: the training from Python."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twofold import config as configs
from twofold.presets import layer
from twofold.runs import Run
from twofold.training import train as loop


class Speaker:
    """A watcher that passes lines on to a function and shows no progress."""

    def __init__(self, listener: Callable[[str], None]) -> None:
        self.listener = listener

    def notify(self, line: str) -> None:
        self.listener(line)

    def progress(self, images: int, total: int, rate: float, losses: dict[str, float]) -> None:
        pass


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
    notify: Callable[[str], None] = lambda line: None,  # noqa: ARG005
) -> Run:
    """Train a translator between two folders of images that are not paired, or go on where `out` stopped.

    Args:
        a, b: the folders; of pairs, `a` alone may hold both, or be a list of them.
        out: the run folder; runs/A2B-METHOD if not given.
        method, preset, size, epochs, decay_epochs, batch, seed, device: as on the command line.
        settings: any other, nested: ``{"optim": {"lr": 1e-4}}``.
        say: is given each line worth reading, such as `print`.

    Returns:
        The run: its paths. ``Translator.load(run.path)`` loads what was trained.

    Raises:
        UsageError: a setting or a folder is wrong, or differs from the run that `out` holds.
        TwofoldError: the run could not go on.
        KeyboardInterrupt: it was interrupted; everything is saved, and the same call goes on.
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
    said = configs.merge(
        layer(preset),
        configs.from_environment(),
        settings or {},
        configs.nest({path: value for path, value in short.items() if value is not None}),
        {name: Path(folder) for name, folder in (("a", a), ("b", b)) if folder is not None},
    )
    folder = Path(out) if out is not None else configs.default_out(said)
    if not loop.train(folder, said, Speaker(notify)):
        raise KeyboardInterrupt(f"{folder} is saved; the same call goes on")
    return Run(folder)
