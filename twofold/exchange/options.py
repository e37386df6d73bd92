"""The options files that the original implementations write beside their checkpoints, such as train_opt.txt.

Read are those of pytorch-CycleGAN-and-pix2pix from 2017 on, of CUT and of pix2pixHD, which share most names.
"""

import re
from pathlib import Path
from typing import NamedTuple

from twofold.errors import TwofoldError
from twofold.formats.scale import Geometry, ResizeName
from twofold.translation.header import MAX_SIZE

NAMES = ("train_opt.txt", "opt.txt", "test_opt.txt")
"""The files in the order in which they count; old versions and pix2pixHD write opt.txt."""

LARGEST = 2**20
"""Bytes of an options file, at most; real ones have about 3,000."""

RENAMED = {
    "loadSize": "load_size",
    "fineSize": "crop_size",
    "resize_or_crop": "preprocess",
    "which_direction": "direction",
    "which_model_netG": "netG",
}
"""Options under the names that versions before 2019, and pix2pixHD, give them."""

SCALES: dict[str, ResizeName] = {
    "resize_and_crop": "resize-and-crop",
    "scale_width": "scale-width",
    "scale_width_and_crop": "scale-width-and-crop",
    "scale_shortside": "shortest",
    "scale_shortside_and_crop": "shortest",
    "crop": "crop",
    "none": "none",
}
"""The values of preprocess, each with the name of that geometry here."""


class Options(NamedTuple):
    """What an options file says about its generators.

    Attributes:
        file: the file.
        swapped: whether the run translated from domain B to domain A (direction BtoA), so that its A is our B.
        geometry: the scale at which the original's test.py translates by default; None if the file does not tell.
        dropout: whether the generators have dropout; None if the file does not tell.
        words: the options that were used, for a message.
    """

    file: Path
    swapped: bool
    geometry: Geometry | None
    dropout: bool | None
    words: str


def options_beside(checkpoint: Path) -> Options | None:
    """The options of the run that wrote a checkpoint; None if no options file stands in its folder.

    Raises:
        TwofoldError: the file cannot be read, or has a direction that is neither AtoB nor BtoA.
    """
    file = options_file(checkpoint.parent)
    return read_options(file) if file else None


def options_file(folder: Path) -> Path | None:
    """The options file in a folder that counts; None if there is none."""
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def read_options(file: Path) -> Options:
    """Read one options file; see `options_beside`."""
    values = parse(file)
    way = values.get("direction", "AtoB")
    if way not in ("AtoB", "BtoA"):
        raise TwofoldError(f"{file} has the direction {way:.20}, not AtoB or BtoA; correct or remove it")
    used = ("direction", "preprocess", "load_size", "crop_size", "norm", "no_dropout")
    return Options(
        file,
        way == "BtoA",
        geometry_of(values),
        {"True": False, "False": True}.get(values.get("no_dropout", "")),
        ", ".join(f"{name} {values[name]:.30}" for name in used if name in values),
    )


def parse(file: Path) -> dict[str, str]:
    """The options by their newest names; a remark such as "[default: 286]" is left out."""
    try:
        with file.open("rb") as stream:
            text = stream.read(LARGEST).decode(errors="replace")
    except OSError as error:
        raise TwofoldError(f"cannot read {file}: {error.strerror or error}") from error
    lines = [line.partition(":") for line in text.splitlines()]
    values = {name.strip(): value.partition("[default:")[0].strip() for name, _, value in lines}
    return {RENAMED.get(name, name): value for name, value in values.items()}


def geometry_of(values: dict[str, str]) -> Geometry | None:
    """The scale of the original's test.py, which sets load_size to crop_size where it resizes to a square.

    With the other values of preprocess its documentation tests at the load size of the training.
    """
    resize = SCALES.get(values.get("preprocess", ""))
    crop = size_in_pixels(values.get("crop_size", ""))
    load = crop if resize == "resize-and-crop" else size_in_pixels(values.get("load_size", "")) or crop
    if resize is None or load is None:
        return None
    return Geometry(resize, load, crop or load)


def size_in_pixels(value: str) -> int | None:
    if re.fullmatch(r"[0-9]{1,6}", value) and 1 <= int(value) <= MAX_SIZE:
        return int(value)
    return None
