"""The marker in a dataset root: which of its folders hold answers to each other under equal names. It needs no torch."""

import json
from collections.abc import Iterable
from pathlib import Path

from twofold.files import write_atomically
from twofold.read_untrusted import as_list, mapping

MARKER = "twofold.json"
"""The file in a dataset root that names the folders whose images of equal names are answers to each other."""


def write_marker(root: Path, answers: Iterable[tuple[str, str]]) -> None:
    """Record in a dataset root which two of its folders hold answers to each other under equal names.

    Raises:
        OSError: the disk refused.
    """
    content = {"answers_by_name": [list(pair) for pair in answers]}
    write_atomically(root / MARKER, json.dumps(content) + "\n")


def have_answers(a: Path, b: Path) -> bool:
    """Whether the marker beside two folders says that their images of equal names are answers to each other."""
    a, b = a.expanduser().resolve(), b.expanduser().resolve()
    if a.parent != b.parent:
        return False
    pairs = as_list(mapping(a.parent / MARKER).get("answers_by_name"))
    return [a.name, b.name] in pairs or [b.name, a.name] in pairs
