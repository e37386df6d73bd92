"""Checkpoints by their names: which epoch and direction a file is of, and which files a folder holds."""

import re
from pathlib import Path
from typing import NamedTuple

from twofold.errors import UsageError
from twofold.exchange.options import Options, options_beside

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


def direction_of_file(name: FileName | None, options: Options | None) -> str | None:
    """The direction that the name and the options tell; None if neither does.

    With direction BtoA the original calls our domain B its domain A.
    """
    swapped = options is not None and options.swapped
    if name is not None and name.domain:
        return "ba" if (name.domain == "B") != swapped else "ab"
    return None if options is None else "ba" if swapped else "ab"


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
    chosen = epoch or list(by_epoch)[-1]
    files, notes = by_direction(by_epoch[chosen], direction)
    if epoch is None and len(by_epoch) > 1:
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
        way = direction_of_file(name, options) or "ab"
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
