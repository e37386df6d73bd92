"""Masks: for each image of a domain a grey image, bright where translation is to leave the image as it is."""

from pathlib import Path

from twofold.data.manifest import Folder
from twofold.data.pairs import by_stem, different_shapes, duplicated, present
from twofold.data.rules import listed
from twofold.data.scan import list_files, scan_files
from twofold.data.settings import DataSettings
from twofold.errors import UsageError

KEPT = 127
"""Pixels brighter than this are kept."""


def find_masks(label: str, path: Path, folder: Folder, settings: DataSettings) -> Folder:
    """The mask of each of a domain's images, in their order, by name up to the suffix; other files are ignored.

    Raises:
        UsageError: an image has no mask, several, or one of another shape; the message names them.
    """
    root = path.expanduser().resolve()
    groups, wanted = by_stem(list_files(root)), by_stem(folder.files)
    broken = present(
        {
            "no mask for": [files[0].name for stem, files in wanted.items() if stem not in groups],
            "several masks of one name": duplicated(
                {stem: groups[stem] for stem in wanted if stem in groups}
            ),
            "one mask for several images": duplicated(wanted),
        }
    )
    masks = scan_files(root, [] if broken else [groups[stem][0] for stem in wanted])
    if broken := broken or different_shapes(folder, masks, settings):
        raise UsageError(f"{label} in {root}: {listed(broken)}")
    return masks
