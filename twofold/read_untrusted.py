"""Read files that may be truncated, edited or replaced: content of the wrong kind gives an empty result, no error."""

import json
import stat
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

Mark = tuple[int, int, int]

_LARGEST = 1 << 26  # bytes of a file whose content is kept
_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


def mark(path: Path) -> Mark | None:
    """Inode, size and time: changes whenever a file or a folder's list of files does; None if there is neither."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    known = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
    return (found.st_ino, found.st_size, found.st_mtime_ns) if known else None


def parsed(path: Path, parse: Callable[[str], Any]) -> Any:
    """`parse(text)` of a file, or None. Kept until the file changes, so the result must not be modified."""
    return _parsed(path, parse, mark(path))


@lru_cache(maxsize=256)
def _parsed(path: Path, parse: Callable[[str], Any], mark: Mark | None) -> Any:
    return parse_file(path, parse) if mark and mark[1] <= _LARGEST else None


def parse_file(path: Path, parse: Callable[[str], Any]) -> Any:
    """`parse(text)` of a file, or None."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None


def mapping(path: Path) -> dict[Any, Any]:
    """The mapping in a YAML or JSON file; empty if it is missing, damaged or something else."""
    parse = json.loads if path.suffix == ".json" else as_yaml
    return as_dict(parse_file(path, parse)) if mark(path) else {}  # reading a pipe would block


def as_yaml(content: str) -> Any:
    return yaml.load(content, _LOADER)


def as_dict(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def room(config: dict[Any, Any], name: str) -> dict[Any, Any]:
    """The mapping under a key of a mapping; empty if there is none."""
    return as_dict(config.get(name))


def number(value: object) -> float | None:
    """A finite number, or None for everything else that a file may hold."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e100:
        return float(value)
    return None
