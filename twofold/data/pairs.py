"""Which image of A belongs to which of B, and which mask to which image, and what is wrong with them."""

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from twofold.data.manifest import File, Folder
from twofold.data.rules import listed
from twofold.data.scan import find_folder, list_files, stat_file, with_headers
from twofold.data.settings import DataSettings, DirectionName
from twofold.errors import UsageError

LISTS = (".csv", ".tsv", ".jsonl")

Faults = dict[str, list[str]]
"""What is wrong, and the names of the files that it is wrong with."""


class Pairs(NamedTuple):
    """The images of both domains; those at the same place of `a.files` and `b.files` are a pair."""

    a: Folder
    b: Folder
    how: str
    """How they were found, in words; of A and B as given, before any exchange."""
    broken: Faults


def find_pairs(a: Path, b: Path | None, settings: DataSettings) -> Pairs:
    """The pairs that `a` holds, or `a` and `b` together.

    Raises:
        UsageError: a folder or list is missing, unreadable or empty, or it holds no pairs.
    """
    a = a.expanduser().resolve()
    if b is not None:
        found = by_name(a, b.expanduser().resolve())
    elif settings.lab:
        both = find_folder(a)
        parts = replace(both, part="lightness"), replace(both, part="colour")
        found = Pairs(*parts, "the lightness of each image and its colour", {})
    elif a.suffix.lower() in LISTS and not a.is_dir():
        found = from_list(a)
    elif a.is_file():
        raise UsageError(
            f"{a} is neither a folder nor a list of pairs; the name of a list ends with .csv, .tsv or .jsonl"
        )
    else:
        files = list_files(a)
        kind = settings.pairs or find_kind(a, files)
        found = halves(a, files) if kind == "halves" else by_suffix(a, files, kind)
    first = with_headers(found.a, settings.layout)
    if found.a.part == "whole":
        second = with_headers(found.b, settings.layout)
    else:  # another part of the same files
        second = replace(first, part=found.b.part)
    broken = found.broken | odd_widths(first) | different_shapes(first, second, settings)
    sides = (first, second) if settings.direction == "ab" else (second, first)
    return Pairs(*sides, found.how, present(broken))


def describe(found: Pairs, direction: DirectionName) -> str:
    """One line: how many pairs there are, how they were found, and which image is the input."""
    count = len(found.a.files)
    text = f"{count:,} pair{'' if count == 1 else 's'}: {found.how}"
    if found.a.part == "lightness":
        return text
    given, other = ("first", "ba") if direction == "ab" else ("second", "ab")
    return f"{text}; the {given} is the input (--direction {other} exchanges them)"


# ---- where pairs come from


def by_name(a: Path, b: Path) -> Pairs:
    """Two folders, whose files are pairs where their names are equal up to the suffix."""
    in_a, in_b = list_files(a), list_files(b)
    ones, others, broken = match_names(in_a, in_b, f"file in {a}", f"file in {b}")
    if not ones:
        raise UsageError(
            f"no name in {a} is a name in {b} ({in_a[0].name}, {in_b[0].name}), so there are no pairs; give pairs"
            " equal names or a list of them (.csv), or train without pairs (--method cyclegan)"
        )
    names = [folder.name if a.name != b.name else f"{folder.parent.name}/{folder.name}" for folder in (a, b)]
    how = f"files of one name in {names[0]} and {names[1]}"
    return Pairs(Folder(a, tuple(ones)), Folder(b, tuple(others)), how, broken)


def match_names(
    a: Iterable[File], b: Iterable[File], kind_a: str, kind_b: str
) -> tuple[list[File], list[File], Faults]:
    """The files of `a` and of `b` with equal names up to the suffix, in one order, and what is wrong with the others.

    Args:
        kind_a, kind_b: what a file of each is, in words.
    """
    ones, others = by_stem(a), by_stem(b)
    stems = [stem for stem in ones if stem in others]
    broken = {
        f"more than one {kind_a} of one name": duplicated(ones),
        f"more than one {kind_b} of one name": duplicated(others),
        f"no {kind_b} for": [files[0].name for stem, files in ones.items() if stem not in others],
        f"no {kind_a} for": [files[0].name for stem, files in others.items() if stem not in ones],
    }
    return [ones[stem][0] for stem in stems], [others[stem][0] for stem in stems], broken


def find_kind(folder: Path, files: Sequence[File]) -> str:
    """`halves` if no two files have one stem; else the two suffixes."""
    if not duplicated(by_stem(files)):
        return "halves"
    suffixes = sorted({PurePosixPath(file.name).suffix.lower() for file in files})
    if len(suffixes) != 2:
        raise UsageError(
            f"{folder} holds files of {len(suffixes)} kinds ({' '.join(suffixes)}); give those that are pairs:"
            " --pairs jpg:png, or --pairs halves"
        )
    return ":".join(name.removeprefix(".") for name in suffixes)


def halves(folder: Path, files: Sequence[File]) -> Pairs:
    left, right = Folder(folder, tuple(files), "left"), Folder(folder, tuple(files), "right")
    return Pairs(left, right, "the left and the right half of each image", {})


def by_suffix(folder: Path, files: Sequence[File], kind: str) -> Pairs:
    """X.jpg with X.png, for `kind` "jpg:png"."""
    one, other = (f".{name.lower()}" for name in kind.split(":"))
    if one == other:
        raise UsageError(f"--pairs {kind} names one suffix twice; give two, such as jpg:png, or halves")
    a, b = ([file for file in files if file.name.lower().endswith(each)] for each in (one, other))
    ones, others, broken = match_names(a, b, f"{one} file", f"{other} file")
    if not ones:
        raise UsageError(
            f"{folder} holds no X{one} with an X{other}; name the suffixes of its pairs, such as --pairs jpg:png"
        )
    folders = Folder(folder, tuple(ones), suffix=one), Folder(folder, tuple(others), suffix=other)
    return Pairs(*folders, f"X{one} with X{other}", broken)


def from_list(path: Path) -> Pairs:
    """A list of paths, relative to itself: CSV or TSV of two columns, or JSONL with the keys a and b."""
    rows = list(read_list(path))
    if not rows:
        raise UsageError(f"{path} lists no pairs; write one a line")
    columns = list(zip(*rows, strict=True))
    missing = [name for column in columns for name in column if not is_file(path.parent / name)]
    repeated = [name for column in columns for name, count in Counter(column).items() if count > 1]
    broken = {"files that do not exist": missing, "files in several pairs": repeated}
    kept = [row for row in rows if not set(row) & set(missing)]
    a, b = (
        Folder(path.parent, tuple(stat_file(path.parent, row[i]) for row in kept), source=path.name)
        for i in range(2)
    )
    return Pairs(a, b, f"the lines of {path.name}", broken)


def find_masks(label: str, path: Path, folder: Folder, settings: DataSettings) -> Folder:
    """The mask of each of a domain's images, in their order, by name up to the suffix; other files are ignored.

    A mask is a grey image, bright where translation is to leave its image as it is.

    Raises:
        UsageError: an image has no mask, several, or one of another shape; the message names them.
    """
    root, wanted = path.expanduser().resolve(), by_stem(folder.files)
    files = [file for stem, group in by_stem(list_files(root)).items() if stem in wanted for file in group]
    _, masks, broken = match_names(folder.files, files, "image", "mask")
    found = with_headers(Folder(root, tuple(masks)), settings.layout)
    if broken := present(broken) or present(different_shapes(folder, found, settings)):
        raise UsageError(f"{label} in {root}: {listed(broken)}")
    return found


def read_list(path: Path) -> Iterator[tuple[str, str]]:
    """The pairs of names in a list.

    Raises:
        UsageError: it cannot be read, or a line holds no pair; the message names the line.
    """
    try:
        content = path.read_bytes()
        marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        text = content.decode("utf-16" if content.startswith(marks) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read the list {path}: it is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise UsageError(f"cannot read the list {path}: {error.strerror}") from error
    rows = json_rows if path.suffix.lower() == ".jsonl" else csv_rows
    for line, row in rows(text, path):
        names = [
            PurePosixPath(name.strip()).as_posix() for name in row if isinstance(name, str) and name.strip()
        ]
        if len(row) != 2 or len(names) != 2:
            raise UsageError(f"{path}, line {line}: a pair is two paths, of A and of B, not {row!r:.80}")
        yield names[0], names[1]


def csv_rows(text: str, path: Path) -> Iterator[tuple[int, Sequence[object]]]:
    first = text.lstrip().partition("\n")[0]
    is_tsv = path.suffix.lower() == ".tsv"
    delimiter = "\t" if is_tsv else next((each for each in ",;\t" if each in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        for place, row in enumerate(reader):
            if row and not (place == 0 and [name.strip().lower() for name in row] == ["a", "b"]):
                yield reader.line_num, row
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: {error}") from error


def json_rows(text: str, path: Path) -> Iterator[tuple[int, Sequence[object]]]:
    for line, content in enumerate(io.StringIO(text, newline=None), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
            yield line, (row["a"], row["b"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UsageError(f'{path}, line {line}: a pair reads {{"a": PATH, "b": PATH}}') from error


# ---- small parts


def is_file(path: Path) -> bool:
    """Whether there is a file; False for names that no system allows."""
    try:
        return path.is_file()
    except OSError:
        return False


def odd_widths(folder: Folder) -> Faults:
    odd = [f"{name} ({each.width} x {each.height})" for name, each in folder.facts.items() if each.width % 2]
    return {"odd widths, which cannot be halved": odd} if folder.part == "left" else {}


def different_shapes(a: Folder, b: Folder, settings: DataSettings) -> Faults:
    """The pairs whose images are not one scaled to the other, within a pixel; where nothing is scaled, not of one size."""
    exactly = settings.resize in ("crop", "none")
    names = []
    for one, other in zip(a.files, b.files, strict=False):
        if not one.width or not other.width:  # unreadable, which the reading of all files will report
            continue
        skew = abs(one.width * other.height - other.width * one.height)
        scaled = skew <= max(one.width, one.height, other.width, other.height)
        if (one[4:6] != other[4:6]) if exactly else not scaled:
            names.append(f"{sized(one)} with {sized(other)}")
    return {"sizes that differ" if exactly else "shapes that differ": names}


def by_stem(files: Iterable[File]) -> dict[str, list[File]]:
    """Files by their names without suffixes."""
    groups: dict[str, list[File]] = {}
    for file in files:
        groups.setdefault(PurePosixPath(file.name).with_suffix("").as_posix(), []).append(file)
    return groups


def duplicated(groups: Mapping[str, Sequence[File]]) -> list[str]:
    """ "a.jpg = a.png" for each stem that several files have."""
    return [" = ".join(file.name for file in files) for files in groups.values() if len(files) > 1]


def sized(file: File) -> str:
    return f"{file.name} ({file.width} x {file.height})"


def present(faults: Faults) -> Faults:
    """Only the faults that some files have."""
    return {fault: names for fault, names in faults.items() if names}
