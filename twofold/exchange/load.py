"""Open whatever holds a generator: a run, a model file, an imported folder, or another project's checkpoint."""

from collections.abc import Callable
from pathlib import Path

from twofold.errors import UsageError
from twofold.exchange.checkpoint import NO_CHOICES, Choices, Imported, import_file
from twofold.exchange.folder import find_generators, holds_generators
from twofold.exchange.options import options_file
from twofold.runs import Run
from twofold.translation import model_file
from twofold.translation.backends import Backend
from twofold.translation.header import is_model
from twofold.translation.translator import Translator


def load(
    path: str | Path,
    *,
    direction: str | None = None,
    key: str | None = None,
    epoch: str | None = None,
    size: int | None = None,
    dropout: bool | None = None,
    best: bool = False,
    device: str = "auto",
    noise: bool | None = None,
    seed: int = 0,
    precision: str = "float32",
    backend: Backend = "torch",
    notify: Callable[[str], None] | None = None,
) -> Translator:
    """Load a translator from a run, a model file, or a checkpoint of another project, which is imported in memory.

    >>> zebra = twofold.load("checkpoints/horse2zebra/latest_net_G_A.pth")("horse.jpg")

    Args:
        path: a run folder, a .safetensors model, an .onnx file that `twofold export` wrote, a checkpoint (.pth, .pt,
            .ckpt, .safetensors), or a checkpoint folder.
        direction: "ab" or "ba". None: "ab" for folders; for a file, what it tells.
        key: for a checkpoint with several state dicts: which one.
        epoch: for a checkpoint folder: "latest", "200" and so on.
        size: for a checkpoint: side in pixels of the squares that it was trained on.
        dropout: for a checkpoint: whether a U-Net has dropout. None: as `noise`, or as the options file beside it says.
        best: for a run: load the snapshot that was best on held-out images instead of the newest.
        device, noise, seed, precision, backend: as of `Translator.load`.
        notify: gets one line for each value that was found or assumed in an import.

    Raises:
        UsageError: the path does not exist, or does not have that direction, key or epoch, or the device or the
            backend is missing.
        TwofoldError: the file is damaged, or holds no generator that twofold has. No code in a file is run.
    """
    path, choices = Path(path), Choices(key, epoch, size, dropout)
    if path.suffix == ".onnx":
        check_arguments(path, best, choices)
        return Translator.load(
            path, direction=direction, device=device, noise=noise, precision=precision, backend=backend
        )
    if noise and dropout is None and is_foreign(path):
        choices = choices._replace(dropout=True)
    generator, header, notes = open_generator(path, direction, best, choices)
    for note in notes if notify else ():
        notify(note)  # pyright: ignore[reportOptionalCall]
    return Translator.of(
        generator, header, device=device, noise=noise, seed=seed, precision=precision, backend=backend
    )


def open_generator(
    path: Path, direction: str | None = None, best: bool = False, choices: Choices = NO_CHOICES
) -> Imported:
    """The generator and the header of what `load` takes, with the notes of an import; see `load`."""
    check_arguments(path, best, choices)
    if not is_foreign(path):
        return Imported(*model_file.load(path, direction, best), [])
    if path.is_file():
        return import_file(path, direction, choices)
    found = find_generators(path, choices.epoch, direction)
    way, file = next(iter(found.files.items()))
    imported = import_file(file, way, choices)
    return imported._replace(notes=[*found.notes, *imported.notes])


def check_arguments(path: Path, best: bool, choices: Choices) -> None:
    """Raise UsageError if an argument is given that such a path does not take."""
    foreign = is_foreign(path)
    if best and (foreign or path.is_file()):
        raise UsageError(f"--best is for runs; {path} is not one")
    for name, value in choices._asdict().items():
        if value is not None and not foreign:
            raise UsageError(f"--{name} is for checkpoints of other projects; {path} is not one")
    if choices.epoch is not None and path.is_file():
        raise UsageError(f"--epoch is for checkpoint folders; {path} is a file")


def is_foreign(path: Path) -> bool:
    """Whether a path is a checkpoint of another project, or a folder of them; a path that does not exist is not."""
    if path.is_dir():
        return not Run(path).recognised and (holds_generators(path) or options_file(path) is not None)
    return path.is_file() and path.suffix != ".onnx" and not is_model(path)
