"""`twofold data check`: the problems that training would report or refuse, and the figures of each folder."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from twofold.data import halves, rules
from twofold.data.build import draw_held_out, find_range, read_folders
from twofold.data.cache import hash_file
from twofold.data.geometry import LoadRule, read_part
from twofold.data.labels import in_words, look_like_labels
from twofold.data.layouts import find_layout, is_split, listed
from twofold.data.manifest import Folder
from twofold.data.pairs import LISTS
from twofold.data.ranges import limits
from twofold.data.rules import Problem, counted
from twofold.data.scan import list_files
from twofold.data.settings import DataSettings
from twofold.formats import images
from twofold.formats.contract import Pixels
from twofold.runs import Track, untracked


class Checked(NamedTuple):
    """The result of a check."""

    folders: dict[str, dict[str, Any]]
    """By label, A and B, the `figures` of each."""
    pairs: str | None
    """How many pairs there are and how they were found; None without pairs."""
    problems: list[Problem]
    layout: str
    """The use of each folder of a dataset root; empty where there is none."""
    uses: dict[str, str]
    """By use, train, held out and test, how many images."""

    @property
    def ready(self) -> bool:
        """Whether training would start."""
        return all(problem.severity != "error" for problem in self.problems)


def check(
    folder_a: Path,
    folder_b: Path | None,
    settings: DataSettings,
    *,
    test: Sequence[Path] = (),
    track: Track = untracked,
) -> Checked:
    """Decode every image of one folder or two, or of a dataset root. Writes nothing, no cache either.

    Args:
        settings: with `paired`, pairs are searched for, in one folder too. A list holds pairs, and so does a folder of
            images that look like pairs.
        test: folders whose images must not be trained on, besides those of the dataset root.

    Raises:
        UsageError: a folder is missing, unreadable or empty, its `.npy` files do not go together, one folder
            lies inside the other, it is not clear which to train on, or nothing in them is a pair.
    """
    layout = find_layout(folder_a, folder_b, settings.paired)
    if not settings.paired and layout.b is None and look_like_pairs(layout.a):
        settings = settings.model_copy(update={"paired": True})
        layout = find_layout(folder_a, folder_b, paired=True)
    settings = settings.model_copy(update={"val_a": layout.val_a, "val_b": layout.val_b})
    test = [*test, *(folder for folder in layout.test if images.find_all(folder).images)]
    tested = {
        hash_file(folder / file.name): folder / file.name for folder in test for file in list_files(folder)
    }
    uncached = settings.model_copy(update={"cache": False})
    problems: list[Problem] = []
    found = read_folders(
        layout.a, layout.b, uncached, 1, problems.append, paired=settings.paired, track=track
    )
    folders = {}
    for label, own in found.items():
        folder, rule, _ = own[0]
        contract = find_range(label, own, frozenset(), problems.append)
        folders[label] = figures(folder, rule._replace(contract=contract))
        if look_like_labels(samples(folder, rule)):
            rules.suggest_labels(label, problems.append)
        rules.check_tested(label, folder, tested, problems.append)
    how = next((problem.text for problem in problems if problem[:2] == ("note", "pairs")), None)
    order = ("error", "warning", "advice")
    ranked = [each for rank in order for each in problems if each.severity == rank]
    uses = count_uses({label: [each.folder for each in own] for label, own in found.items()}, settings.paired)
    if tested:
        names = listed(["/".join(folder.absolute().parts[-2:]) for folder in test])
        uses["test"] = f"{counted([*tested])} in {names}, not trained on"
    return Checked(folders, how, ranked, layout.line, uses)


def look_like_pairs(place: Path) -> bool:
    """Whether one argument holds pairs: a list, or a folder of images that look like pairs side by side."""
    if not place.is_dir():
        return place.suffix.lower() in LISTS
    votes = halves.vote(place, [file.name for file in list_files(place)])
    return votes.are_surely_pairs or (votes.twice_as_wide and is_split(place))


def count_uses(folders: dict[str, list[Folder]], paired: bool) -> dict[str, str]:
    """How many images are trained on and held out, in words; a second folder of a domain is held out."""
    drawn = {label: len(draw_held_out(own[0].good, 0, "a")) for label, own in folders.items()}
    if any(len(own) > 1 for own in folders.values()):
        held_out = {label: len(own[1].good) for label, own in folders.items() if len(own) > 1}
        drawn, how = dict.fromkeys(drawn, 0), ""
    else:
        held_out, how = drawn, " drawn from these"
    trained = {label: len(own[0].good) - drawn[label] for label, own in folders.items()}
    none = "no images (--val, or 40 images of which 5 % are drawn)"
    return {
        "train": _in_words(trained, paired),
        "held out": _in_words(held_out, paired) + how if any(held_out.values()) else none,
    }


def _in_words(counts: dict[str, int], paired: bool) -> str:
    """ "A 12, B 10 images", "12 pairs"."""
    if paired:
        return f"{counts['A']:,} pair{'' if counts['A'] == 1 else 's'}"
    return ", ".join(f"{label} {count:,}" for label, count in counts.items()) + " images"


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
    bad = f" ({found['bad']:,} bad)" if found["bad"] else ""
    channels, stored = found["channels"], found["stored_channels"]
    counts = ", ".join(f"{count:,} with {n}" for n, count in stored.items())
    mixed = "" if list(stored) in ([], [channels]) else f" (stored: {counts})"
    small, middle, large = (f"{w} × {h}" for w, h in (found["smallest"], found["median"], found["largest"]))
    sizes = f"all {small}" if small == large else f"{small} to {large}, median {middle}"
    kind = f"{'label map' if found['labels'] else 'image'}{'' if found['good'] == 1 else 's'}"
    if not found["good"]:
        return f"0 {kind}{bad}"
    plural = "" if channels == 1 else "s"
    values = f", {found['dtype']} of {found['range']}" if found["range"] else ""
    return f"{found['good']:,} {kind}{bad}, {channels} channel{plural}{mixed}{values}, {sizes} px"
