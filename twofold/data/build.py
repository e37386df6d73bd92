"""Build the manifest of a run: find the files, check them, read them once, and choose the held-out images."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from twofold.data import cache, halves, labels, pairs, ranges, rules
from twofold.data.cache import Job
from twofold.data.geometry import LoadRule, Part
from twofold.data.manifest import Domain, File, Folder, FolderCache, Manifest, mask_rule, masks_of
from twofold.data.rules import Report
from twofold.data.sampler import DomainName
from twofold.data.scan import choose_contract, choose_label_contract, find_folder, palette_of, with_headers
from twofold.data.settings import DataSettings
from twofold.errors import UsageError
from twofold.formats import images
from twofold.formats.contract import Contract, Labels
from twofold.formats.scale import Geometry
from twofold.randomness import generator
from twofold.runs import Track, untracked


class Loaded(NamedTuple):
    """A folder whose files were read."""

    folder: Folder
    rule: LoadRule
    read: FolderCache


Found = dict[str, list[Loaded]]
"""Folders by label: A, masks of A, B, masks of B. A second folder is held out."""


def build_manifest(
    folder_a: Path,
    folder_b: Path | None,
    settings: DataSettings,
    seed: int,
    notify: Callable[[str], None],
    *,
    multiple_of: int = 4,
    track: Track = untracked,
) -> Manifest:
    """Read both folders once: verify every file, fill the cache, choose the held-out images.

    Files that cannot be read are skipped. For pairs, `folder_a` may hold both images or be a list of them; a pair
    with a bad file is skipped as a whole.

    Args:
        seed: draws the held-out images.
        multiple_of: the networks need sizes to be a multiple of this.

    Raises:
        UsageError: a folder is missing, empty or inside another, an image is too small, or pairs are broken.
        TwofoldError: under 95 % of a folder's files can be read.
    """
    paired = settings.paired or folder_b is None
    report = rules.raising(notify)
    found = read_folders(folder_a, folder_b, settings, multiple_of, report, paired=paired, track=track)
    a = _make_domain("a", found, settings, seed)
    b = _make_domain("b", found, settings, seed)
    if paired:
        files = zip(a.folder.files, b.folder.files, strict=True)
        b = replace(b, drawn=frozenset(other.name for one, other in files if one.name in a.drawn))
    a, b = (
        replace(domain, contract=find_range(label, found[label], domain.drawn, report))
        for label, domain in (("A", a), ("B", b))
    )
    geometry = Geometry(settings.resize, settings.loaded, settings.size)
    caches = tuple(each.read for own in found.values() for each in own)
    return Manifest(a, b, multiple_of, paired, geometry, caches)


def _make_domain(name: DomainName, found: Found, settings: DataSettings, seed: int) -> Domain:
    label = name.upper()
    (folder, rule, _), *held_out = found[label]
    drawn = draw_held_out(folder.good, seed, name) if settings.hold_out and not held_out else frozenset()
    val, masks = (own[0].folder if own else None for own in (held_out, found.get(masks_of(label))))
    return Domain(folder, rule.contract, drawn, val, rule.labels, masks)


def draw_held_out(files: Sequence[File], seed: int, domain: DomainName) -> frozenset[str]:
    """The names held out of training: 5 %, at least 8 and at most 100; none of fewer than 40 files."""
    if len(files) < 40:
        return frozenset()
    count = min(100, max(8, round(len(files) * 0.05)))
    drawn = generator("held-out", seed, domain).choice(len(files), count, replace=False)
    return frozenset(files[i].name for i in drawn)


def read_folders(
    folder_a: Path,
    folder_b: Path | None,
    settings: DataSettings,
    multiple_of: int,
    report: Report,
    *,
    paired: bool,
    track: Track = untracked,
) -> Found:
    """Find every folder, report its problems, and read its files once.

    Args:
        folder_b: None for pairs in `folder_a`, or for one domain alone.
        report: called with every problem; it may raise to stop.
    """
    masks = {"A": settings.masks_a, "B": settings.masks_b}
    given = [folder_a, folder_b, settings.val_a, settings.val_b, *dict.fromkeys(masks.values())]
    rules.refuse_nesting([folder for folder in given if folder is not None])
    find = _find_pairs if paired else _find_folders
    jobs: list[tuple[str, Job]] = []  # in the order of `Manifest.folders`
    for label, own in find(folder_a, folder_b, settings, report).items():
        rule = _load_rule(label, own, settings, multiple_of)
        for folder in own:
            rules.check_headers(label, folder, rule, report)
            if not folder.source and not (label == "B" and folder.path == jobs[0][1][0].path):
                rules.check_ignored(label, folder.path, images.find_all(folder.path), report)
            jobs.append((label, (folder, rule)))
        if paired:
            rules.check_jitter(label, rule, report)
        if path := masks[label]:
            masks_found = pairs.find_masks(masks_of(label), path, own[0], settings)
            jobs.append((masks_of(label), (masks_found, mask_rule(settings, multiple_of))))
    notify = rules.note("cache", report)
    caches = cache.open_caches([job for _, job in jobs], settings, notify, verify=True, track=track)
    found: Found = {}
    for (label, (folder, rule)), read in zip(jobs, caches, strict=True):
        hashed = cache.hash_file(folder.path / folder.source) if folder.source else ""
        folder = replace(folder, files=read.files, source_hash=hashed)
        found.setdefault(label, []).append(Loaded(folder, rule, read))
    return _check_read(found, paired, report)


def _find_folders(a: Path, b: Path | None, settings: DataSettings, _: Report) -> dict[str, list[Folder]]:
    """The folders of each domain: to train on, and held out."""
    domains = [(a, settings.val_a), (b, settings.val_b)][:: 1 if settings.direction == "ab" else -1]
    parts: tuple[Part, Part] = ("lightness", "colour") if settings.lab else ("whole", "whole")
    return {
        label: [with_headers(find_folder(path, part), settings.layout) for path in paths if path is not None]
        for label, paths, part in zip("AB", domains, parts, strict=True)
        if any(paths)
    }


def _find_pairs(a: Path, b: Path | None, settings: DataSettings, report: Report) -> dict[str, list[Folder]]:
    """The same of pairs, whose problems are reported."""
    if b is not None and settings.pairs:
        raise UsageError(
            f"--pairs {settings.pairs} is for pairs in one folder, not for {a} and {b}; leave it out"
        )
    found = [pairs.find_pairs(a, b, settings)]
    _check_halves(a, found[0], settings, report)
    rules.check_pairs(a, found[0].broken, report)
    if settings.val_a is not None:
        found.append(pairs.find_pairs(settings.val_a, settings.val_b, settings))
        if not _are_halves(found[0]):  # else the held-out images are read as the others are
            _check_halves(settings.val_a, found[1], settings, report)
        rules.check_pairs(settings.val_a, found[1].broken, report)
    for each, title in zip(found, ("", "held out: "), strict=False):
        rules.note("pairs", report)(title + pairs.describe(each, settings.direction))
    return {"A": [each.a for each in found], "B": [each.b for each in found]}


def _check_halves(place: Path, found: pairs.Pairs, settings: DataSettings, report: Report) -> None:
    """Refuse to cut single photographs in half, unless the user has named halves."""
    if _are_halves(found) and settings.pairs is None:
        names = [file.name for file in found.a.files]
        rules.check_halves(place, halves.vote(found.a.path, names), report)


def _are_halves(found: pairs.Pairs) -> bool:
    return found.a.part in ("left", "right")


def _load_rule(label: str, folders: Sequence[Folder], settings: DataSettings, multiple_of: int) -> LoadRule:
    """How a domain is loaded, by its first folder."""
    labels = bool(settings.labels_a if label == "A" else settings.labels_b)
    choose = choose_label_contract if labels else choose_contract
    return LoadRule(settings, choose(label, folders, settings), multiple_of, folders[0].part, labels)


def find_range(label: str, own: Sequence[Loaded], drawn: frozenset[str], report: Report) -> Contract:
    """The contract of a domain with its range, which is reported, as are images that it clips.

    Args:
        own: the folders of the domain, to train on and held out.
        drawn: names of files that are held out, and so do not count.
    """
    folder, rule, read = own[0]
    if rule.contract.is_labels and folder.good:
        return _find_labels(label, own, drawn, report)
    if read.stats is None or not folder.good:
        return rule.contract
    wanted = rule.settings.range_a if label == "A" else rule.settings.range_b
    trained = ranges.of_files(folder, read.stats, [file for file in folder.good if file.name not in drawn])
    try:
        contract = ranges.find_range(rule.contract, wanted, trained)
    except UsageError as error:
        report(rules.Problem("error", "range", label, f"{error} (--data.range-{label.lower()} LOW HIGH)", []))
        return rule.contract
    rules.note("range", report)(f"{label}: {ranges.sentence(contract, trained)}")
    for folder, _, read in own:
        if read.stats is not None:
            shares = ranges.outside(ranges.of_files(folder, read.stats, folder.good), contract)
            names = [file.name for file in folder.good]
            rules.check_range(label, dict(zip(names, shares.tolist(), strict=True)), report)
    return contract


def _find_labels(label: str, own: Sequence[Loaded], drawn: frozenset[str], report: Report) -> Contract:
    """The contract of a domain of label maps with their classes, which are reported; arguments as of `find_range`."""
    folder, rule, read = own[0]
    contract = rule.contract
    assert read.seen is not None
    trained = {file.name: read.seen[file.name] for file in folder.good if file.name not in drawn}
    try:
        values = labels.find_classes(label, trained)
    except UsageError as error:
        what = str(error).removeprefix(f"{label}: ")
        report(rules.Problem("error", "labels", label, what, []))
        return contract
    palette = palette_of([each.folder for each in own]) if contract.channels == 1 else ()
    chosen = Labels(values, (), palette, rule.settings.onehot)
    rules.note("labels", report)(f"{label}: {labels.sentence(contract, chosen)}")
    for each, _, seen in own:
        unseen = [file.name for file in each.good if each is not folder or file.name in drawn]
        held_out = {name: seen.seen[name] for name in unseen} if seen.seen else {}
        rules.check_labels(label, labels.held_out_only(held_out, chosen), report)
    if chosen.ids:
        low, high = float(chosen.ids[0]), float(chosen.ids[-1])
        return replace(contract, low=(low,), high=(high,), labels=chosen)
    return replace(contract, labels=chosen)


def _check_read(found: Found, paired: bool, report: Report) -> Found:
    """Report the problems of the pixels, and skip the partners of bad files."""
    if paired:
        both = [_check_pair(a, b, report) for a, b in zip(found["A"], found["B"], strict=True)]
        found |= {"A": [a for a, _ in both], "B": [b for _, b in both]}
    for label, own in found.items():
        if label not in ("A", "B"):
            rules.check_masks(label, own[0].folder, report)
            continue
        for each in [] if paired else own:
            rules.check_readable(label, each.folder, [[file] for file in each.folder.files], report)
        rules.check_content(label, own[0].folder, own[0].rule, report)
        rules.check_aspect(label, own[0].folder, own[0].rule, report)
    if "B" in found:
        a, b = found["A"][0], found["B"][0]
        rules.check_shared(a.folder, b.folder, report)
        if not paired:
            rules.check_channels(a.rule, b.rule, report)
    return found


def _check_pair(a: Loaded, b: Loaded, report: Report) -> tuple[Loaded, Loaded]:
    rows = list(zip(a.folder.files, b.folder.files, strict=True))
    rules.check_readable("", a.folder, rows, report)
    only_a = frozenset(one.name for one, other in rows if other.error and not one.error)
    only_b = frozenset(other.name for one, other in rows if one.error and not other.error)
    return (
        a._replace(folder=replace(a.folder, without_partner=only_a)),
        b._replace(folder=replace(b.folder, without_partner=only_b)),
    )
