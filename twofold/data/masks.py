"""Masks: for each image of a domain, grey, what translation is to leave as it is."""

from pathlib import Path

from twofold.data.dataset import LoadRule
from twofold.data.pairs import Broken, by_stem, first, shapes, some_of, surveyed, twice
from twofold.data.settings import DataSettings
from twofold.data.survey import Survey, list_files
from twofold.errors import UsageError

KEPT = 127
"""What is brighter is kept."""


def masks_of(label: str) -> str:
    """The label of a domain's masks."""
    return f"masks of {label}"


def mask_rule(settings: DataSettings, multiple_of: int) -> LoadRule:
    """How masks are loaded: as one channel, to the nearest pixel, at the size of their images."""
    return LoadRule(settings, 1, multiple_of, labels=True)


def find_masks(folder: Path, found: Survey, settings: DataSettings) -> Survey:
    """The mask of each of a domain's images, in their order, by name up to the suffix; other files are left alone.

    Raises:
        UsageError: some have no mask, or one of another shape, or several; the message names them.
    """
    root = folder.expanduser().resolve()
    groups, wanted = by_stem(list_files(root)), by_stem(found.listed)
    missing = [first(files) for stem, files in wanted.items() if stem not in groups]
    several = twice({stem: groups[stem] for stem in wanted if stem in groups})
    wrong = some_of(
        [
            Broken("no mask for", missing),
            Broken("several masks of one name", several),
            Broken("one mask for several images", twice(wanted)),
        ]
    )
    masks = surveyed(masks_of(found.label), root, [] if wrong else [groups[stem][0] for stem in wanted])
    wrong = wrong or shapes(found, masks, settings.resize in ("crop", "none"))
    if wrong:
        raise UsageError(f"masks of {found.label} in {root}: {'; '.join(map(str, wrong))}")
    return masks
