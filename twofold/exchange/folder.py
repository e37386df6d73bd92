"""Import checkpoints with what stands around them: the file's name, its folder, and the options file beside it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from twofold.errors import UsageError
from twofold.exchange import mapping
from twofold.exchange.checkpoint import Imported, load_checkpoint
from twofold.exchange.mapping import candidates, is_generator
from twofold.exchange.options import Options, options_beside
from twofold.exchange.untrusted import read_tree
from twofold.formats.contract import Contract
from twofold.translation.header import Header

GENERATOR_NAMES = [
    re.compile(rf"{name}\.(pth|pt|ckpt|safetensors)")
    for name in (
        r"(?P<epoch>latest|\d+|iter_\d+)_net_G(_(?P<way>[AB]))?",
        r"(netG|G)_?(?P<way>A2B|B2A|AB|BA|A|B)(_(?P<epoch>latest|\d+))?",
        r"(generator|netG|G)(?P<way>)(_(?P<epoch>latest|\d+))?",
    )
]
"""Names of generators: the original's and CUT's, then those of other projects (netG_A2B.pth, G_AB_199.pth)."""


class FileName(NamedTuple):
    """What the name of a generator's file tells.

    Attributes:
        epoch: "latest", "200" or "iter_5000".
        domain: "A" if the generator translates images of domain A, "B" if those of B, "" if the name does not tell.
    """

    epoch: str
    domain: str


def parse_name(name: str) -> FileName | None:
    """What a file's name tells; None if it is not that of a generator."""
    for pattern in GENERATOR_NAMES:
        if found := pattern.fullmatch(name):
            return FileName(found["epoch"] or "latest", (found["way"] or "")[:1])
    return None


# ---- one file


def import_file(
    path: Path,
    *,
    key: str | None = None,
    direction: str | None = None,
    size: int | None = None,
    dropout: bool | None = None,
) -> Imported:
    """Import one checkpoint; its name and an options file beside it fill in what the arguments leave open.

    Args:
        key: which mapping of names to tensors in the file; see `load_checkpoint`.
        direction: "ab" or "ba".
        size: side in pixels of the squares that it was trained on.
        dropout: whether a U-Net has dropout.

    Returns:
        The generator, its header, and a line for each value that was not given. The header has format 2 where the
        options tell the geometry, else format 1.

    Raises:
        UsageError: the file holds several generators and the arguments do not choose one.
        TwofoldError: the file or the options cannot be read, or hold no generator that twofold has.
    """
    options, name = options_beside(path), parse_name(path.name)
    told = direction or direction_of(name, options)
    if dropout is None and options is not None:
        dropout = options.dropout
    imported = load_checkpoint(path, key=key, direction=told, size=size, dropout=dropout)
    header = imported.header
    if size is None and options is not None and options.geometry is not None:
        header = with_geometry(header, options)
    notes = [*imported.notes, *what_was_open(header, options)]
    return imported._replace(header=header, notes=notes)


def generators_in(path: Path) -> dict[str, str | None]:
    """The generators in one file by their keys, each with the direction that its key tells."""
    found = candidates(read_tree(path))
    return {key: mapping.direction_of(key) for key, state in found.items() if is_generator(state)}


def direction_of(name: FileName | None, options: Options | None) -> str | None:
    """The direction that the name and the options tell; None if neither does.

    With direction BtoA the original calls our domain B its domain A.
    """
    swapped = options is not None and options.swapped
    if name is not None and name.domain:
        return "ba" if (name.domain == "B") != swapped else "ab"
    return None if options is None else "ba" if swapped else "ab"


def with_geometry(header: Header, options: Options) -> Header:
    """The header in format 2, with the geometry of the options and the contracts of 8-bit images."""
    assert options.geometry is not None
    source, target = (Contract(channels=int(header.network[f"{end}_channels"])) for end in ("in", "out"))
    return Header.of(
        header.network, header.direction, source, target, options.geometry, header.origin, noise=header.noise
    )


def what_was_open(header: Header, options: Options | None) -> Iterable[str]:
    """A line for what the options told, and one for each value that nobody told."""
    if options is not None:
        yield f"{options.file} says: {options.words or 'nothing that matters here'}."
    if header.scale is None and header.size is None:
        yield (
            "The size of its training is not known, so images are translated at their own scale; "
            "--size N sets it, and --at N in `twofold translate`."
        )


# ---- a folder


class Found(NamedTuple):
    """The generators of one epoch in a checkpoint folder.

    Attributes:
        files: by direction, "ab" and "ba".
        notes: a line for each decision that the user did not take.
    """

    files: dict[str, Path]
    notes: list[str]


def holds_generators(folder: Path) -> bool:
    """Whether a folder holds files with the names of generators."""
    return folder.is_dir() and any(parse_name(path.name) for path in folder.iterdir() if path.is_file())


def find_generators(folder: Path, epoch: str | None = None, direction: str | None = None) -> Found:
    """The generators in a checkpoint folder of the original, such as checkpoints/maps_cyclegan.

    Args:
        epoch: "latest", "200", "iter_5000"; None: the latest, or else the highest number.
        direction: "ab" or "ba": only this one.

    Raises:
        UsageError: there is no generator, no such epoch, or no such direction.
    """
    by_epoch = epochs(folder)
    if not by_epoch:
        raise UsageError(no_generator(folder))
    if epoch is not None and epoch not in by_epoch:
        raise UsageError(f"{folder} has no generator of epoch {epoch:.20}; it has {', '.join(by_epoch)}")
    chosen = epoch or ("latest" if "latest" in by_epoch else list(by_epoch)[-1])
    files, notes = by_direction(by_epoch[chosen], direction)
    if chosen != epoch and len(by_epoch) > 1:
        notes.append(f"Epoch {chosen} of {', '.join(by_epoch)}; --epoch chooses another.")
    if direction is not None and direction not in files:
        raise UsageError(f"{folder} has no generator of direction {direction}, only of {', '.join(files)}")
    return Found({way: files[way] for way in sorted(files) if direction in (None, way)}, notes)


def epochs(folder: Path) -> dict[str, list[tuple[FileName, Path]]]:
    """The generators of each epoch, in ascending order, "latest" last."""
    found: dict[str, list[tuple[FileName, Path]]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and (name := parse_name(path.name)):
            found.setdefault(name.epoch, []).append((name, path))
    return {epoch: found[epoch] for epoch in sorted(found, key=epoch_order)}


def epoch_order(epoch: str) -> tuple[bool, bool, int]:
    number = epoch.removeprefix("iter_")
    return epoch == "latest", not epoch.startswith("iter_"), int(number) if number.isdecimal() else 0


def by_direction(
    found: list[tuple[FileName, Path]], direction: str | None
) -> tuple[dict[str, Path], list[str]]:
    """The files by direction, and what to tell. One that names no domain counts only where no other does."""
    options = options_beside(found[0][1])
    named = [each for each in found if each[0].domain]
    files: dict[str, Path] = {}
    for name, path in named or found:
        way = direction_of(name, options) or "ab"
        files.setdefault(way if name.domain else direction or way, path)
    left = [path.name for _, path in found if path not in files.values()]
    return files, [f"Left out: {', '.join(left)}."] if left else []


def no_generator(folder: Path) -> str:
    """Why nothing can be imported from a folder, and what to give."""
    inside = sorted(path.name for path in folder.iterdir() if holds_generators(path))
    if inside:
        return f"{folder} holds checkpoint folders; give one of them: {', '.join(inside[:5])}"
    files = sorted(
        path.name for path in folder.iterdir() if path.suffix in (".pth", ".pt", ".ckpt", ".safetensors")
    )
    other = f"; it has {', '.join(files[:5])}, which can be imported one by one" if files else ""
    return f"{folder} holds no generator, such as latest_net_G_A.pth or 200_net_G.pth{other}"
