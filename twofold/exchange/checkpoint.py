"""Import a generator from a checkpoint of another project."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from twofold.errors import TwofoldError, UsageError
from twofold.exchange.foreign import remarks
from twofold.exchange.mapping import ROOT, candidates, choose, direction_of
from twofold.exchange.original import generator_of
from twofold.exchange.untrusted import read_tree
from twofold.networks.layers import Generator
from twofold.networks.registry import describe
from twofold.networks.unet import UnetGenerator
from twofold.translation.header import MAX_SIZE, Header


class Imported(NamedTuple):
    """A generator from a checkpoint.

    Attributes:
        generator: float32, on the CPU, in train mode.
        header: of the model file to write; format 1.
        notes: what was chosen or assumed, each a sentence.
    """

    generator: Generator
    header: Header
    notes: list[str]


def load_checkpoint(
    path: Path,
    *,
    key: str | None = None,
    direction: str | None = None,
    size: int | None = None,
    dropout: bool | None = None,
) -> Imported:
    """Read the generator of a checkpoint; no code in the file is run.

    Args:
        key: which of several state dicts in the file, such as "netG_ema" or "state_dict/G_AB".
        direction: "ab" or "ba"; by default what the name of the state dict in the file tells, or "ab".
        size: side in pixels of the squares that training scaled images to; None for images at their own scale.
        dropout: whether a U-Net has dropout, which its keys do not tell; None is no.

    Raises:
        UsageError: the file does not exist, holds several generators, or an argument is wrong.
        TwofoldError: the file cannot be read, or holds no generator that twofold has.
    """
    if size is not None and not 1 <= size <= MAX_SIZE:
        raise UsageError(f"--size must be 1 to {MAX_SIZE} pixels, not {size}")
    found = candidates(read_tree(path))
    try:
        name, state = choose(found, key, direction)
        generator = generator_of(state, dropout=bool(dropout))
    except (UsageError, TwofoldError) as error:
        raise type(error)(f"{path}: {error}") from error
    notes = ["" if name == ROOT else f"The weights are those of {name:.80} in the file."]
    notes += remarks(state)
    if isinstance(generator, UnetGenerator) and dropout is None:
        notes.append(
            "The keys do not tell whether the U-Net has dropout; it is imported without. With --dropout it has."
        )
    if generator.arguments["upsample"] == "resize-zero":
        notes.append("Doublings repeat pixels and pad with zeros, as in PyTorch-GAN; the keys tell no more.")
    way = direction or direction_of(name)
    if way is None:
        notes.append(
            "The direction is not known and taken to be ab; give --direction ba if it translates B to A."
        )
    header = Header(
        describe(generator),
        way or "ab",
        size,
        {"imported": path.name, "blake2b": digest(path)},
        noise=bool(generator.arguments["dropout"]),  # the original leaves it on at test time
    )
    return Imported(generator, header, [note for note in notes if note])


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
