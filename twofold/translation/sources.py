"""Which images to translate, and the file that each result goes to."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from twofold.errors import UsageError
from twofold.formats import images
from twofold.formats.contract import Contract, Pixels
from twofold.formats.metadata import Metadata

FORMATS = ("png", "npy", "tif", "jpg", "webp", "bmp", "npz", "ppm", "pgm", "jp2", "avif")
"""Formats that results can have; a message names the first ones that hold them."""

LOSSY = (".jpg", ".jpeg", ".jfif", ".webp", ".avif")
"""Suffixes of the formats that have a quality."""

NOT_WRITTEN = frozenset(
    [".heic", ".heif", ".jxl", ".gif", ".tga", ".exr", ".hdr", ".psd", ".svg", ".pdf", ".ico", ".dcm", ".nii"]
)
"""Endings of a file name, not of a folder, whose formats are not written."""

Suffix = Callable[[Path], str]
"""From a source to the suffix of its result, with the dot."""


class Job(NamedTuple):
    """One image to translate.

    Attributes:
        image: (H, W, channels) once read, in the dtype of the source domain, then its translation, in that of the
            target; None before, and where there is a problem.
        alpha: (H, W, 1), of the source, for the result; None if there is none.
        metadata: for the result.
        frames: how many images the source holds, of which the first is translated; 1 before it is read.
        large: height and width of a TIFF file that is read and translated part by part.
        problem: why this file was not translated; empty if it was.
    """

    source: Path
    target: Path
    image: Pixels | None = None
    alpha: Pixels | None = None
    metadata: Metadata = Metadata()
    frames: int = 1
    large: tuple[int, int] | None = None
    problem: str = ""


def plan(
    inputs: Sequence[Path], out: Path, suffix: Suffix = lambda _: ".png", format: str | None = None
) -> list[Job]:
    """List every image under `inputs` once, each with a target of its own.

    A folder's images keep their relative names, with another suffix. If two input folders contain an image of the
    same name, each folder's results go to a subfolder with that folder's name. If a target is taken, the later source
    keeps its own ending in its name (x.jpg.png), then gets a number (x.jpg-2.png).

    Args:
        inputs: image files and folders.
        out: the folder for the results; with one input file also a file name. Images in it are results of an earlier
            translation, and no sources.
        format: what the user asked for, which the file name `out` must not contradict.

    Raises:
        UsageError: an input is missing, a target or `out` is one of the inputs, or `out` names a file where a folder is
            needed.
    """
    if not inputs:
        raise UsageError("give images to translate: files or folders")

    if out.suffix.lower() in images.SUFFIXES | NOT_WRITTEN and not out.is_dir():
        if len(inputs) != 1 or inputs[0].is_dir():
            raise UsageError(
                f"-o {out} is a file name, for one image; name a folder: -o {shlex.quote(str(out.with_suffix('')))}"
            )
        jobs = [Job(source, out) for source in relative_names(inputs[0], out)]
        if format and usual(suffix(inputs[0])) != usual(out.suffix):
            raise UsageError(f"--format {format} and -o {out} name two formats; leave out --format")
    else:
        if out.resolve() in {given.resolve() for given in inputs if given.is_dir()}:
            raise UsageError(
                f"-o {out} is the folder of the images; name another one, so that they stay apart"
            )
        jobs = list(jobs_in_folder(inputs, out, suffix))
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        if job.target.resolve() in sources:
            raise UsageError(f"{job.target} is one of the inputs and would be overwritten; choose another -o")
    return jobs


def usual(suffix: str) -> str:
    """The usual suffix of a format that has several, in lower case."""
    return {".jpeg": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}.get(suffix.lower(), suffix.lower())


def suffixes(target: Contract, format: str | None) -> Suffix:
    """The suffix of each result: that of `format`, or for None the best that holds it.

    For "same" it is the source's own; for a format that is only read, .tif where it is a kind of TIFF, else the best.
    """

    def best(source: Path) -> str:
        return images.best_suffix(target.dtype, target.channels, source.suffix.lower())

    def same(source: Path) -> str:
        if source.suffix.lower() in images.HELD:
            return source.suffix
        return ".tif" if source.suffix.lower() in images.TIFF_SUFFIXES else best(source)

    if format is None or format == "same":
        return same if format else best
    return lambda _: f".{format.removeprefix('.')}"


def check_targets(jobs: Sequence[Job], target: Contract) -> None:
    """Raise UsageError for the first target whose format does not hold what the model gives, or changes classes."""
    for suffix, path in {job.target.suffix.lower(): job.target for job in reversed(jobs)}.items():
        if not images.holds(suffix, target.dtype, target.channels):
            raise UsageError(f"cannot write {path}: {why_not(suffix, target)}")
        if target.labels and suffix in LOSSY:
            raise UsageError(f"cannot write {path}: {suffix} changes the values of label maps; use .png")


def why_not(suffix: str, target: Contract) -> str:
    fitting = [f".{name}" for name in FORMATS if images.holds(f".{name}", target.dtype, target.channels)]
    if not any(images.holds(suffix, "uint8", channels) for channels in (1, 3)):
        return f"end its name with {', '.join(fitting)}"
    wrong_type = not any(images.holds(suffix, target.dtype, channels) for channels in (1, 3))
    what = f"{target.dtype} values" if wrong_type else f"{target.channels} channels"
    return f"{suffix} does not hold {what}; use {' or '.join(fitting[:2])}"


def check_quality(jobs: Sequence[Job], quality: int | None) -> None:
    """Raise UsageError for a quality outside 1 to 100, or where no result has one."""
    if quality is None:
        return
    if not 1 <= quality <= 100:
        raise UsageError(f"--quality must be 1 to 100, not {quality}")
    if not any(job.target.suffix.lower() in LOSSY for job in jobs):
        raise UsageError(
            f"--quality is for jpg, webp and avif, not for {jobs[0].target.suffix}; add --format jpg"
        )


def jobs_in_folder(inputs: Sequence[Path], out: Path, suffix: Suffix) -> Iterator[Job]:
    groups = {given: relative_names(given, out) for given in inputs}
    folders = [names.values() for given, names in groups.items() if given.is_dir()]
    stems = [{str(name.with_suffix("")).lower() for name in names} for names in folders]
    subfolders = len(set().union(*stems)) < sum(map(len, stems))
    seen: set[Path] = set()
    taken: set[str] = set()
    for given, names in groups.items():
        parent = Path(given.resolve().name) if subfolders and given.is_dir() else Path()
        for source, relative in names.items():
            if source.resolve() not in seen:
                seen.add(source.resolve())
                possible = possible_names(parent / relative, suffix(source))
                name = next(name for name in possible if str(name).lower() not in taken)
                taken.add(str(name).lower())
                yield Job(source, out / name)


def relative_names(given: Path, out: Path) -> dict[Path, Path]:
    """The images that an input stands for, but for those in `out`, each with its name relative to the input."""
    if given.is_dir():
        base, results = given.resolve(), out.resolve()
        inside = results.relative_to(base) if results.is_relative_to(base) else None
        names = {path: path.relative_to(given) for path in images.find(given)}
        kept = {path: name for path, name in names.items() if not (inside and name.is_relative_to(inside))}
        if not kept:
            raise UsageError(f"{given} holds images in {out} only, which is -o; name another -o")
        return kept
    if not given.exists():
        raise UsageError(f"{given} does not exist; give image files or folders")
    return {given: Path(given.name)}


def possible_names(relative: Path, suffix: str) -> Iterator[Path]:
    """horse.png, then horse.jpg.png, then horse.jpg-2.png, and so on."""
    yield relative.with_suffix(suffix)
    yield relative.with_name(relative.name + suffix)
    for number in count(2):
        yield relative.with_name(f"{relative.name}-{number}{suffix}")
