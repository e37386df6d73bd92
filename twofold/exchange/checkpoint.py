"""Import a generator from a checkpoint of another project, with what its name and the options file beside it tell."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from twofold.errors import TwofoldError, UsageError
from twofold.exchange.folder import direction_of_file, parse_name
from twofold.exchange.foreign import remarks
from twofold.exchange.mapping import ROOT, candidates, choose, direction_of, is_generator
from twofold.exchange.options import Options, options_beside
from twofold.exchange.original import generator_of
from twofold.exchange.untrusted import read_tree
from twofold.formats.contract import Contract
from twofold.networks.layers import Generator
from twofold.networks.registry import describe
from twofold.networks.unet import UnetGenerator
from twofold.translation.header import MAX_SIZE, Header


class Choices(NamedTuple):
    """What a user may say about a checkpoint; None leaves it to the file, its name and the options file beside it.

    Attributes:
        key: which of several state dicts in a file, such as "netG_ema" or "state_dict/G_AB".
        epoch: of a checkpoint folder: "latest", "200" and so on.
        size: side in pixels of the squares that training scaled images to.
        dropout: whether a U-Net has dropout, which its keys do not tell.
    """

    key: str | None = None
    epoch: str | None = None
    size: int | None = None
    dropout: bool | None = None


NO_CHOICES = Choices()


class Imported(NamedTuple):
    """A generator from a checkpoint.

    Attributes:
        generator: float32, on the CPU, in train mode.
        header: of the model file to write; format 2 where the options file tells the geometry, else format 1.
        notes: what was chosen or assumed, each a sentence.
    """

    generator: Generator
    header: Header
    notes: list[str]


def import_file(path: Path, direction: str | None = None, choices: Choices = NO_CHOICES) -> Imported:
    """Read the generator of a checkpoint; no code in the file is run.

    Args:
        direction: "ab" or "ba"; by default what the names of the file and of the state dict in it tell, or "ab".

    Raises:
        UsageError: the file does not exist, holds several generators, or an argument is wrong.
        TwofoldError: the file or the options cannot be read, or hold no generator that twofold has.
    """
    size = choices.size
    if size is not None and not 1 <= size <= MAX_SIZE:
        raise UsageError(f"--size must be 1 to {MAX_SIZE} pixels, not {size}")
    options = options_beside(path)
    dropout = options.dropout if choices.dropout is None and options else choices.dropout
    direction = direction or direction_of_file(parse_name(path.name), options)
    found = candidates(read_tree(path))
    try:
        name, state = choose(found, choices.key, direction)
        generator = generator_of(state, dropout=bool(dropout))
    except (UsageError, TwofoldError) as error:
        raise type(error)(f"{path}: {error}") from error
    direction = direction or direction_of(name)
    header = Header(
        describe(generator),
        direction or "ab",
        size,
        {"imported": path.name, "blake2b": digest(path)},
        noise=bool(generator.arguments["dropout"]),  # the original leaves it on at test time
    )
    if size is None and options:
        header = with_geometry(header, options)
    notes = [f"The weights are those of {name:.80} in the file."] if name != ROOT else []
    notes += [*remarks(state), *notes_on_the_unknown(header, generator, dropout, direction)]
    if options:
        notes.append(f"{options.file} says: {options.words or 'nothing that matters here'}.")
    return Imported(generator, header, notes)


def with_geometry(header: Header, options: Options) -> Header:
    """The header in format 2, with the geometry of the options and the contracts of 8-bit images, if they tell it."""
    if options.geometry is None:
        return header
    source, target = (Contract(channels=int(header.network[f"{end}_channels"])) for end in ("in", "out"))
    return replace(header, source=source, target=target, geometry=options.geometry, format=2)


def notes_on_the_unknown(
    header: Header, generator: Generator, dropout: bool | None, direction: str | None
) -> Iterator[str]:
    """A line for each value that neither the user nor a file told."""
    if isinstance(generator, UnetGenerator) and dropout is None:
        yield "The keys do not tell whether the U-Net has dropout; it is imported without. Add --dropout if it was trained with it."
    if generator.arguments["upsample"] == "resize-zero":
        yield "The upsampling repeats pixels and pads with zeros, as in PyTorch-GAN; the keys do not tell it."
    if direction is None:
        yield "The direction is not known and taken to be ab; give --direction ba if it translates B to A."
    if header.geometry is None and header.size is None:
        yield (
            "The size of its training is not known, so images are translated at their own scale; "
            "--size N sets it, and --at N in `twofold translate`."
        )


def generators_in(path: Path) -> dict[str, str | None]:
    """The generators in one file by their keys, each with the direction that its key tells."""
    found = candidates(read_tree(path))
    return {key: direction_of(key) for key, state in found.items() if is_generator(state)}


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
