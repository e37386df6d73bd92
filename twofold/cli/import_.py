"""`twofold import`: models made of another project's checkpoints."""

from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter

from twofold.cli.options import Direction, Whole
from twofold.cli.terminal import emit, in_words, paragraph
from twofold.errors import UsageError
from twofold.runs import Run


def import_(
    checkpoint: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    direction: Direction | None = None,
    key: str | None = None,
    epoch: str | None = None,
    size: Whole | None = None,
    dropout: Annotated[bool | None, Parameter(negative="--no-dropout")] = None,
) -> None:
    """Convert generators of CycleGAN, pix2pix, CUT, pix2pixHD and others to twofold models.

    Example: `twofold import latest_net_G_A.pth -o model.safetensors`.

    A train_opt.txt beside a checkpoint tells what the options below leave open. No code in a file is run.

    Args:
        checkpoint: A file such as latest_net_G_A.pth, or a folder of such files.
        out: The .safetensors file to write; for a folder a folder, which gets ab.safetensors and ba.safetensors.
        direction: The model's direction; G_A of a CycleGAN is ab, G_B is ba. Of a file or folder with both, the one
            to import.
        key: Which state dict of a file that holds several, such as netG_A2B or state_dict/G_AB.
        epoch: Which checkpoints of a folder, such as 200; the latest if not given.
        size: The crop size it was trained at, in pixels, so that images are translated at that scale.
        dropout: Whether the U-Net was trained with dropout, as pix2pix is by default; its keys do not show it.
    """
    from twofold.exchange.checkpoint import Choices, import_file
    from twofold.exchange.folder import find_generators
    from twofold.translation.header import is_model, read_header
    from twofold.translation.model_file import save

    if checkpoint.is_file() and is_model(checkpoint) and read_header(checkpoint):
        raise UsageError(f"{checkpoint} is a twofold model already; `twofold translate` takes it as it is")
    if Run(checkpoint).exists:
        raise UsageError(f"{checkpoint} is a run of twofold; `twofold translate` takes it as it is")
    if checkpoint.is_dir():
        files, notes = find_generators(checkpoint, epoch, direction)
        targets = targets_in(out, list(files))
    elif epoch is not None:
        raise UsageError(f"--epoch is for folders of checkpoints; {checkpoint} is a file")
    else:
        files, notes, targets = {direction: checkpoint}, [], [model_name(out)]
    choices = Choices(key, epoch, size, dropout)
    for file, target in zip(files.values(), targets, strict=True):
        if target.exists() and target.samefile(file):
            raise UsageError(f"{target} is the checkpoint itself; name another file to write")
    imported = [import_file(file, way, choices) for way, file in files.items()]
    for model, target in zip(imported, targets, strict=True):
        save(model.generator, model.header, target)
        emit(paragraph(f"{target}: {model.header.direction}, {in_words(model.header.network)}"))
    for line in dict.fromkeys([*notes, *(note for model in imported for note in model.notes)]):
        emit(paragraph(line, "- ", "  "))


def targets_in(out: Path, ways: list[str]) -> list[Path]:
    """The model files of a folder's import, one for each direction."""
    if out.suffix == ".safetensors":
        if len(ways) > 1:
            raise UsageError(
                f"the folder holds both directions: give a folder, -o {quote(str(out.with_suffix('')))}, or --direction"
            )
        return [out]
    if out.is_file():
        raise UsageError(f"{out} is a file; give a folder for the models")
    if Run(out).exists:
        raise UsageError(f"{out} is a run; give another folder for the models")
    return [out / f"{way}.safetensors" for way in ways]


def model_name(out: Path) -> Path:
    if out.suffix != ".safetensors":
        name = quote(str(out.with_suffix(".safetensors")))
        raise UsageError(f"a model's name ends in .safetensors: -o {name}")
    return out
