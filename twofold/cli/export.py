"""`twofold export`: a model as a checkpoint of the original implementation."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from twofold.cli.options import Direction, Flag
from twofold.cli.terminal import emit, in_words, paragraph
from twofold.errors import UsageError


def export(
    model: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    direction: Direction | None = None,
    best: Flag = False,
) -> None:
    """Write a generator as a checkpoint that test.py of pytorch-CycleGAN-and-pix2pix or of CUT loads.

    Args:
        model: A run folder, a .safetensors model, or a checkpoint that `twofold import` takes.
        out: The .pth file to write, such as latest_net_G_A.pth.
        direction: ab or ba; ab if not given. A model file has its own.
        best: Use the run's best snapshot on held-out images, not the newest.
    """
    if out.suffix != ".pth":
        raise UsageError(f"a checkpoint's name ends in .pth: -o {out.with_suffix('.pth')}")
    from twofold.exchange.export import how_to_use, save_original
    from twofold.exchange.load import open_generator

    generator, header, notes = open_generator(model, direction=direction, best=best)
    save_original(generator, out)
    emit(paragraph(f"{out}: {in_words({'network': header.network['network'], **header.network})}"))
    for line in (*notes, *how_to_use(header)):
        emit(paragraph(line, "- ", "  "))
