"""`twofold data check`: the problems that training would report or refuse, and the figures of each folder."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from twofold.data import rules
from twofold.data.build import find_range, read_folders
from twofold.data.cache import hash_file
from twofold.data.geometry import LoadRule, read_part
from twofold.data.labels import in_words, look_like_labels
from twofold.data.manifest import Folder
from twofold.data.ranges import limits
from twofold.data.rules import Problem
from twofold.data.scan import list_files
from twofold.data.settings import DataSettings
from twofold.formats.contract import Pixels


class Checked(NamedTuple):
    """The result of a check."""

    folders: dict[str, dict[str, Any]]
    """By label, A and B, the `figures` of each."""
    pairs: str | None
    """How many pairs there are and how they were found; None without pairs."""
    problems: list[Problem]

    @property
    def ready(self) -> bool:
        """Whether training would start."""
        return all(problem.severity != "error" for problem in self.problems)


def check(
    folder_a: Path, folder_b: Path | None, settings: DataSettings, *, test: Sequence[Path] = ()
) -> Checked:
    """Decode every image of one folder or two. Writes nothing, no cache either.

    Args:
        settings: with `paired`, pairs are searched for, in one folder or a list too.
        test: folders whose images must not be trained on.

    Raises:
        UsageError: a folder is missing, unreadable or empty, its `.npy` files do not go together, one folder
            lies inside the other, or nothing in them is a pair.
    """
    tested = {
        hash_file(folder / file.name): folder / file.name for folder in test for file in list_files(folder)
    }
    uncached = settings.model_copy(update={"cache": False})
    problems: list[Problem] = []
    found, caches = read_folders(folder_a, folder_b, uncached, 1, problems.append, paired=settings.paired)
    for label in (label for label in "AB" if label in found):
        contract = find_range(label, found, caches, frozenset(), settings, problems.append)
        found[label] = [(folder, rule._replace(contract=contract)) for folder, rule in found[label]]
    for label, own in found.items():
        if label in "AB" and look_like_labels(samples(*own[0])):
            rules.suggest_labels(label, problems.append)
        rules.check_tested(label, own[0][0], tested, problems.append)
    folders = {label: figures(*own[0]) for label, own in found.items()}
    how = next((problem.text for problem in problems if problem[:2] == ("note", "pairs")), None)
    order = ("error", "warning", "advice")
    return Checked(folders, how, [each for rank in order for each in problems if each.severity == rank])


SAMPLED = 12
"""Images that are looked at for whether a set looks like label maps."""


def samples(folder: Folder, rule: LoadRule) -> Iterator[Pixels]:
    """Some images of a folder, evenly chosen; none of label maps and in Lab."""
    if rule.labels or rule.part in ("lightness", "colour"):
        return
    step = max(1, len(folder.good) // SAMPLED)
    for file in folder.good[::step][:SAMPLED]:
        yield read_part(folder.path / file.name, rule)


def figures(folder: Folder, rule: LoadRule) -> dict[str, Any]:
    """The figures of a folder. Sizes are [width, height] in pixels; `stored_channels` counts files by channels."""
    good = [file for file in folder.files if not file.error]
    sizes = sorted([(file.width, file.height) for file in good] or [(0, 0)], key=prod)
    return {
        "folder": str(folder.path),
        "good": len(good),
        "bad": len(folder.files) - len(good),
        "labels": rule.labels,
        "channels": rule.contract.channels,
        "dtype": rule.contract.dtype,
        "range": values_in_words(rule),
        "stored_channels": dict(sorted(Counter(facts.channels for facts in folder.facts.values()).items())),
        "smallest": sizes[0],
        "median": sizes[(len(sizes) - 1) // 2],
        "largest": sizes[-1],
    }


def values_in_words(rule: LoadRule) -> str:
    """The range that was found in a set, or its classes."""
    if rule.contract.labels:
        return in_words(rule.contract.labels)
    return limits(rule.contract) if rule.summarised and not rule.labels else ""


def sentence(found: dict[str, Any]) -> str:
    """The figures of a folder in words."""
    bad = f" ({found['bad']:,} bad)" if found["bad"] else ""
    channels, stored = found["channels"], found["stored_channels"]
    counts = ", ".join(f"{count:,} with {n}" for n, count in stored.items())
    mixed = "" if list(stored) in ([], [channels]) else f" (stored: {counts})"
    small, middle, large = (f"{w} × {h}" for w, h in (found["smallest"], found["median"], found["largest"]))
    sizes = f"all {small}" if small == large else f"{small} to {large}, median {middle}"
    kind, plural = "label maps" if found["labels"] else "images", "" if channels == 1 else "s"
    values = f", {found['dtype']} of {found['range']}" if found["range"] else ""
    return f"{found['good']:,} {kind}{bad}, {channels} channel{plural}{mixed}{values}, {sizes} px"
