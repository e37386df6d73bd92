"""Which files a run trains on and which it holds out, found once and frozen in data.json."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from twofold.data import cache, pairs
from twofold.data.cache import Entry, Listed, Scan
from twofold.data.dataset import LoadRule
from twofold.data.listing import Index, Listing, Side
from twofold.data.masks import find_masks, mask_rule, masks_of
from twofold.data.sampler import Domain
from twofold.data.settings import DataSettings
from twofold.data.survey import (
    Survey,
    choose_channels,
    choose_labels,
    counted,
    duplicates,
    list_files,
    notes,
    shared,
    some,
    stat_file,
    survey,
    too_small,
)
from twofold.errors import TwofoldError, UsageError
from twofold.randomness import generator

ENOUGH = 0.95
"""The share of a folder's files, or of pairs, that must decode."""


# ---- building


def build(
    folder_a: Path,
    folder_b: Path | None,
    settings: DataSettings,
    seed: int,
    notify: Callable[[str], None],
    *,
    multiple_of: int = 4,
) -> Index:
    """Read both folders once: verify every file, fill the cache, choose what is held out.

    Bad files are skipped and said; so is what is worth knowing (duplicates, 16 bits, alpha). Of pairs, `folder_a`
    may hold both images, or be a list of them; a pair with a bad file is skipped whole.

    Args:
        seed: of the run; it draws the held-out images.
        multiple_of: what the networks need sizes to be a multiple of.

    Raises:
        UsageError: a folder is missing, empty or inside another, an image is too small, or pairs are broken.
        TwofoldError: under 95 % of a folder's files decode.
    """
    paired = settings.paired or folder_b is None
    surveys = _surveys(folder_a, folder_b, settings, notify)
    rules = _rules(surveys, settings, multiple_of, notify)
    _refuse_jitter(rules, paired, settings)
    surveys = _with_masks(surveys, settings)
    rules |= {masks_of(label): mask_rule(settings, multiple_of) for label in "AB"}
    jobs = [found.job(rules[found.label]) for found in surveys]
    scans = cache.open_all(jobs, settings, notify, verify=True)
    listings: dict[str, list[Listing]] = {label: [] for label in rules}
    for found, scan in zip(surveys, scans, strict=True):
        listings[found.label].append(_listing(found, scan))
    if paired:
        together = [_judge_pairs(a, b, notify) for a, b in zip(listings["A"], listings["B"], strict=True)]
        listings |= {"A": [a for a, _ in together], "B": [b for _, b in together]}
    else:
        for label in "AB":
            for listing in listings[label]:
                _judge(label, listing, notify)
    a = _make_side("a", listings["A"], rules["A"], settings, seed)
    b = _make_side("b", listings["B"], rules["B"], settings, seed)
    if paired:
        b = replace(b, drawn=_partners(a.drawn, a.listing, b.listing))
    a, b = (replace(side, masks=_readable(listings[masks_of(label)])) for label, side in (("A", a), ("B", b)))
    _say_duplicates(a.listing, b.listing, notify)
    return Index(a, b, multiple_of, paired, tuple(scans))


def _surveys(
    folder_a: Path, folder_b: Path | None, settings: DataSettings, notify: Callable[[str], None]
) -> list[Survey]:
    """Every folder with its domain: A, what is held out of A, B, what is held out of B."""
    masks = dict.fromkeys((settings.masks_a, settings.masks_b))  # maybe the same for both
    given = [folder_a, folder_b, settings.val_a, settings.val_b, *masks]
    refuse_nesting([folder for folder in given if folder is not None])
    if settings.paired or folder_b is None:
        found = [_pairs(folder_a, folder_b, settings)]
        if settings.val_a is not None:
            found.append(_pairs(settings.val_a, settings.val_b, settings))
        for each, title in zip(found, ("", "held out: "), strict=False):
            notify(title + pairs.said(each, settings.direction))
        return [*(each.a for each in found), *(each.b for each in found)]
    every = [(folder_a, settings.val_a), (folder_b, settings.val_b)]
    domains = zip("AB", every if settings.direction == "ab" else every[::-1], strict=True)
    surveys = [survey(label, folder) for label, domain in domains for folder in domain if folder is not None]
    return [pairs.one_side(found) for found in surveys] if settings.lab else surveys


def _with_masks(surveys: Sequence[Survey], settings: DataSettings) -> list[Survey]:
    """Every folder, the masks of a domain after its images: in the order of `Index.listings`."""
    ordered = []
    for label, folder in (("A", settings.masks_a), ("B", settings.masks_b)):
        mine = [found for found in surveys if found.label == label]
        ordered += mine if folder is None else [*mine, find_masks(folder, mine[0], settings)]
    return ordered


def _readable(masks: Sequence[Listing]) -> Listing | None:
    for listing in masks:
        if bad := [f"{file.name} ({file.error})" for file in listing.skipped]:
            raise UsageError(f"{counted(bad)} in {listing.folder} cannot be a mask: {some(bad, 10)}")
    return masks[0] if masks else None


def _pairs(a: Path, b: Path | None, settings: DataSettings) -> pairs.Pairs:
    found = pairs.find_pairs(a, b, settings)
    if found.broken:
        wrong = "; ".join(map(str, found.broken))
        raise UsageError(f"broken pairs in {a}: {wrong}. Mend or remove them; `twofold data check` lists all")
    return found


def _rules(
    surveys: Sequence[Survey], settings: DataSettings, multiple_of: int, notify: Callable[[str], None]
) -> dict[str, LoadRule]:
    """How each domain is loaded, found out from its first folder; what is worth knowing is said."""
    rules = {}
    asked = {"A": (settings.channels_a, settings.labels_a), "B": (settings.channels_b, settings.labels_b)}
    for found in surveys:
        _refuse_small(found, settings, multiple_of)
        channels, labels = asked[found.label]
        if found.label not in rules:
            drawn = choose_labels(found, labels)
            rule = LoadRule(settings, choose_channels(found, channels), multiple_of, drawn, found.part)
            rules[found.label] = rule
            if drawn and labels is None:
                off = f"--data.labels-{found.label.lower()} false"
                notify(
                    f"{found.label}: label maps by their few colours, so resized without mixing them ({off}: photos)"
                )
        for line in notes(found, rules[found.label].channels):
            notify(line)
    return rules


def _refuse_jitter(rules: dict[str, LoadRule], paired: bool, settings: DataSettings) -> None:
    """Jitter is the same for both of a pair; a label map's colours have a meaning, which it would change."""
    if settings.jitter and paired and any(rule.labels for rule in rules.values()):
        raise UsageError("data.jitter changes colours, which label maps must keep; leave it out")


def _listing(found: Survey, scan: Scan) -> Listing:
    hashed = cache.hash_file(found.folder / found.source) if found.source else ""
    return Listing(found.folder, tuple(scan.entries), found.part, found.suffix, found.source, hashed)


def refuse_nesting(folders: Sequence[Path]) -> None:
    """Raise UsageError where two folders are the same, or one holds the other."""
    resolved = [folder.expanduser().resolve() for folder in folders]
    for i, one in enumerate(resolved):
        for other in resolved[i + 1 :]:
            if one == other:
                raise UsageError(f"{one} is given twice; each domain needs a folder of its own")
            if one in other.parents or other in one.parents:
                inner, outer = sorted((one, other), key=lambda path: len(path.parts), reverse=True)
                raise UsageError(f"{inner} lies inside {outer}, so both would see its images; move one out")


def _refuse_small(found: Survey, settings: DataSettings, multiple_of: int) -> None:
    small = too_small(found, settings, multiple_of)
    if small:
        facts = found.facts[small[0]]
        least = f"the crop ({settings.size})" if settings.resize == "crop" else f"the network's {multiple_of}"
        raise UsageError(
            f"{found.label}: {counted(small)} smaller than {least} ({some(small)}: {facts.width} x "
            f"{facts.height}); take them out, lower data.size, or set data.resize to resize-and-crop"
        )


def _judge(label: str, listing: Listing, notify: Callable[[str], None]) -> None:
    """Say which files are skipped; stop where they are too many."""
    bad = listing.skipped
    named = [f"{file.name} ({file.error})" for file in bad]
    if len(listing.good) < ENOUGH * len(listing.files):
        raise TwofoldError(
            f"{label}: only {len(listing.good):,} of {len(listing.files):,} files in {listing.folder} decode, "
            f"95 % must; mend or remove {some(named, 10)}"
        )
    for name in named[:20]:
        notify(f"{label}: skipped {name}")
    if bad:
        notify(f"{label}: skipped {len(bad):,} of {len(listing.files):,} files in all")


def _judge_pairs(a: Listing, b: Listing, notify: Callable[[str], None]) -> tuple[Listing, Listing]:
    """Say which pairs are skipped for a bad file; stop where they are too many."""
    rows = list(zip(a.files, b.files, strict=True))
    bad = [(one, other) for one, other in rows if one.error or other.error]
    named = [f"{file.name} ({file.error})" for file in (one if one.error else other for one, other in bad)]
    if len(rows) - len(bad) < ENOUGH * len(rows):
        raise TwofoldError(
            f"only {len(rows) - len(bad):,} of {len(rows):,} pairs in {a.folder} decode, 95 % must; mend or remove"
            f" {some(named, 10)}"
        )
    for name in named[:20]:
        notify(f"skipped a pair: {name}")
    if bad:
        notify(f"skipped {len(bad):,} of {len(rows):,} pairs in all")
    alone_a = frozenset(one.name for one, other in bad if not one.error)
    alone_b = frozenset(other.name for one, other in bad if not other.error)
    return replace(a, alone=alone_a), replace(b, alone=alone_b)


def _make_side(
    domain: Domain, listings: Sequence[Listing], rule: LoadRule, settings: DataSettings, seed: int
) -> Side:
    listing, val = listings[0], listings[1] if len(listings) > 1 else None
    hold_out = settings.hold_out and val is None
    drawn = draw_held_out(listing.good, seed, domain) if hold_out else frozenset()
    return Side(listing, rule.channels, drawn, val, rule.labels)


def _partners(names: frozenset[str], a: Listing, b: Listing) -> frozenset[str]:
    """What belongs to these files of A in B."""
    return frozenset(other.name for one, other in zip(a.files, b.files, strict=True) if one.name in names)


def draw_held_out(files: Sequence[Entry], seed: int, domain: Domain) -> frozenset[str]:
    """The names held out of training: 5 %, at least 8 and at most 100; none of fewer than 40 files."""
    if len(files) < 40:
        return frozenset()
    count = min(100, max(8, round(len(files) * 0.05)))
    drawn = generator("held-out", seed, domain).choice(len(files), count, replace=False)
    return frozenset(files[i].name for i in drawn)


def _say_duplicates(a: Listing, b: Listing, notify: Callable[[str], None]) -> None:
    for label, listing in (("A", a), ("B", b)):
        extra = [name for names in duplicates(listing.good) for name in names[1:]]
        if extra:
            notify(
                f"{label}: {counted(extra)} stored twice or more, and seen more often for it ({some(extra)})"
            )
    same_files = a.folder == b.folder and (a.part, b.part) != ("whole", "whole")
    both = [] if same_files else shared(a.good, b.good)
    if both:
        notify(
            f"{counted(both)} of A in B as well, which teaches nothing; take them out of one ({some(both)})"
        )


# ---- later


def changes(index: Index) -> list[str]:
    """What was added, removed or altered in the folders since, one line a file; nothing if all is as it was.

    A file whose time alone differs is read, and counts as altered only if its content differs.
    """
    return [
        line
        for label, listing, side in index.listings
        for line in _changes(label, listing, whole=listing is not side.masks)
    ]


def _changes(label: str, listing: Listing, whole: bool) -> list[str]:
    """Of one folder; not `whole`: files that are not listed do not matter."""
    try:
        now = {file.name: file for file in _now(listing)}
    except (UsageError, OSError) as error:
        return [f"{label}: {error}"]
    if listing.source and cache.hash_file(listing.folder / listing.source) != listing.source_hash:
        return [f"{label}: {listing.source} was altered"]
    then = {file.name: file for file in listing.files}
    lines = [f"{label}: {name} was added" for name in now if whole and name not in then]
    lines += [f"{label}: {name} was removed" for name in then if name not in now]
    both = [(now[name], then[name]) for name in then if name in now]
    altered = [new.name for new, old in both if _altered(listing.folder, new, old)]
    return lines + [f"{label}: {name} was altered" for name in altered]


def _now(listing: Listing) -> list[Listed]:
    """The files that stand where the listing's did."""
    if not listing.source:
        return list_files(listing.folder, listing.suffix)
    there = [file.name for file in listing.files if (listing.folder / file.name).is_file()]
    return [stat_file(listing.folder, name) for name in there]


def _altered(folder: Path, new: Listed, old: Entry) -> bool:
    if new.bytes != old.bytes:
        return True
    return new.mtime_ns != old.mtime_ns and cache.hash_file(folder / new.name) != old.hash
