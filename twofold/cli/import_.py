"""`twofold import`: a model made of another project's checkpoint."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from twofold.cli.options import Direction, Flag, Whole
from twofold.cli.terminal import emit, in_words, paragraph
from twofold.errors import UsageError


def import_(
    checkpoint: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    direction: Direction = "ab",
    size: Whole | None = None,
    dropout: Flag = False,
) -> None:
    """Convert a generator of pytorch-CycleGAN-and-pix2pix (.pth) to a twofold model.

    Args:
        checkpoint: Such as latest_net_G_A.pth. twofold reads its tensors and runs no code in it.
        out: The .safetensors file to write.
        direction: The model's direction; G_A of a CycleGAN is ab, G_B is ba.
        size: The crop size it was trained at, in pixels, so that images are translated at that scale; at
            their own scale if not given.
        dropout: The U-Net was trained with dropout, as pix2pix is by default; its keys do not show it.
    """
    from twofold.exchange.original import generator_from_original, read_pth
    from twofold.networks.registry import describe
    from twofold.translation.header import MAX_SIZE, Header
    from twofold.translation.model_file import save

    if out.suffix != ".safetensors":
        raise UsageError(f"a model's name ends in .safetensors: -o {out.with_suffix('.safetensors')}")
    if not checkpoint.is_file():
        raise UsageError(f"there is no file {checkpoint}")
    if size is not None and not 1 <= size <= MAX_SIZE:
        raise UsageError(f"--size must be 1 to {MAX_SIZE} pixels, not {size}")
    generator = generator_from_original(read_pth(checkpoint), dropout=dropout)
    noise = bool(generator.arguments["dropout"])  # the original code leaves it on at test time
    save(generator, Header(describe(generator), direction, size, {"imported": "junyanz"}, noise), out)
    emit(paragraph(f"{out}: {in_words(describe(generator))}"))
