"""Dataset roots: which of their folders are trained on, held out, and kept for tests.

Recognised, in any case and spelling of `SPLITS`: trainA trainB valA …, A/train B/train …, train/A train/B …, A and B
alone, train val test of pairs; and two folders that each hold train, val and test.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from twofold.errors import UsageError
from twofold.formats import images

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

_SPLIT, _SIDE, _GAP = f"(?P<split>{'|'.join(SPLITS)})", "(?:domain[ _.-]?)?(?P<side>[ab])", "[ _.-]?"
_NAMES = [re.compile(each) for each in (_SPLIT, _SIDE, _SPLIT + _GAP + _SIDE, _SIDE + _GAP + _SPLIT)]

Role = tuple[str, str]
"""What a folder is for: "train", "val", "test" or "" for no split; and "a", "b" or "" for no domain."""
Roles = dict[Role, list[Path]]


class Layout(NamedTuple):
    """The folders of a run.

    Attributes:
        a, b: to train on; `b` is None where `a` is a list, or one folder.
        val_a, val_b: held out; None where there are none.
        line: the use of each folder of a dataset root, in one line; empty where nothing was recognised.
    """

    a: Path
    b: Path | None
    val_a: Path | None = None
    val_b: Path | None = None
    test: tuple[Path, ...] = ()
    line: str = ""


def find_layout(a: Path, b: Path | None, paired: bool, *, val: bool = True) -> Layout:
    """The folders that a dataset root, or one for each domain, holds for each use; `a` and `b` themselves if it is none.

    Args:
        paired: one folder may hold images of both domains.
        val: whether a held-out set in the root is used.

    Raises:
        UsageError: it is not clear what to train on; the message names what was found.
    """
    a, b = a.expanduser(), b and b.expanduser()
    if b is not None and not (a.exists() and b.exists()):
        return Layout(a, b)  # reading them says which one does not exist
    root = _inner(a) if b is None else a.parent if a.parent == b.parent else Path()
    tops = [root] if b is None else [a, b]
    roles = _roles(root) if b is None else _domain_roles(a, "a") | _domain_roles(b, "b")
    others = _others(tops, roles)
    if not any(split for split, _ in roles) and (b or others or set(roles) != {("", "a"), ("", "b")}):
        return Layout(a, b)  # A and B, without train, must be all that there is: such names may mean anything
    if b is None and (count := _count_images(root)):
        raise UsageError(_beside(root, count, roles))
    _refuse_unclear(" and ".join(map(str, tops)), root, roles)
    return _layout(root, {role: paths[0] for role, paths in roles.items()}, others, paired, val)


def is_split(folder: Path) -> bool:
    """Whether a folder is the train, val or test folder of a dataset root that has no folders for A and B."""
    folder = folder.expanduser().resolve()
    roles = [_role(other.name) for other in _subfolders(folder.parent)]
    splits = {role[0] for role in roles if role and not role[1]}
    return (_role(folder.name) or ("", "a"))[1] == "" and len(splits - {""}) > 1


# ---- what a root holds


def _roles(root: Path) -> Roles:
    roles: Roles = {}
    for folder in _subfolders(root):
        role = _role(folder.name)
        if role is None:
            continue
        inner = {} if all(role) else _inner_roles(folder, role)
        for each, paths in (inner or {role: [folder]}).items():
            roles.setdefault(each, []).extend(paths)
    return roles


def _domain_roles(folder: Path, side: str) -> Roles:
    """The folders of one domain; `folder` itself as the training set if it holds no train, val or test."""
    return _inner_roles(folder, ("", side)) or {("", side): [folder]}


def _inner_roles(folder: Path, role: Role) -> Roles:
    """The folders in `folder` that add the part that its own role lacks: train/A, A/train, A/trainA."""
    roles: Roles = {}
    for inner in _subfolders(folder):
        split, side = _role(inner.name) or ("", "")
        whole = (role[0] or split, role[1] or side)
        if all(whole) and split in ("", whole[0]):
            roles.setdefault(whole, []).append(inner)
    if roles and (count := _count_images(folder)):
        raise UsageError(_beside(folder, count, roles))
    return roles


def _role(name: str) -> Role | None:
    match = next((found for each in _NAMES if (found := each.fullmatch(name.casefold()))), None)
    if match is None:
        return None
    found = match.groupdict()
    return SPLITS.get(found.get("split") or "", ""), found.get("side") or ""


def _inner(root: Path) -> Path:
    """The folder inside `root` if that is all that `root` holds, as many archives unpack; else `root`."""
    for _ in range(8):  # a link may lead back
        inner = _subfolders(root)
        if len(inner) != 1 or _role(inner[0].name) is not None or _count_images(root):
            break
        root = inner[0]
    return root


def _others(tops: Sequence[Path], roles: Roles) -> list[Path]:
    """The folders beside those that have a role, inside `tops`."""
    known = [path for paths in roles.values() for path in paths]
    parents = dict.fromkeys(path.parent for path in known if any(top in path.parents for top in tops))
    beside = [folder for parent in dict.fromkeys([*tops, *parents]) for folder in _subfolders(parent)]
    return [
        each
        for each in beside
        if not any(each in (path, *path.parents) or path in each.parents for path in known)
    ]


def _subfolders(root: Path) -> list[Path]:
    """The folders with files in a folder, without hidden ones and those that systems make; none if it is unreadable."""
    try:
        found = [
            path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "@", "__"))
        ]
        return sorted(path for path in found if any(inner.is_file() for inner in path.rglob("*")))
    except OSError:
        return []


def _count_images(folder: Path) -> int:
    return sum(
        path.suffix.lower() in images.SUFFIXES and path.name[0] != "." and path.is_file()
        for path in folder.iterdir()
    )


# ---- what it means


def _refuse_unclear(where: str, root: Path, roles: Roles) -> None:
    """UsageError where two folders have one role, or a domain has nothing to train on."""
    found = f"{where}: found {listed(_names(root, (path for paths in roles.values() for path in paths)))}"
    for role, paths in roles.items():
        whole = [("", role[1]), ("train", "")] if role[0] == "train" and role[1] else []
        same = [*paths, *(path for each in whole for path in roles.get(each, []))]
        if len(same) > 1:
            names = listed(_names(root, same))
            raise UsageError(f"{found}; {names} could all be meant, so give the folders to train on")
    for side in _sides(roles):
        if ("train", side) not in roles and ("", side) not in roles:
            trained = [quote(str(paths[0])) for (split, _), paths in roles.items() if split == "train"]
            what = (
                f"two folders: `twofold train {trained[0]} OTHER`" if trained else "the folders to train on"
            )
            raise UsageError(f"{found}, but no train{side.upper()}; add it, or give {what}")


def _layout(root: Path, roles: dict[Role, Path], others: Sequence[Path], paired: bool, val: bool) -> Layout:
    sides = _sides(roles)
    train = [roles.get(("train", side)) or roles["", side] for side in sides]
    held_out = [roles[role] for role in [("val", side) for side in sides] if role in roles]
    if paired and not held_out and ("val", "") in roles:  # one folder of pairs
        held_out = [roles["val", ""]]
    elif len(held_out) < len(sides):
        held_out = []
    held_out = held_out if val else []
    test = [path for (split, _), path in roles.items() if split == "test"]
    rest = [path for path in [*roles.values(), *others] if path not in (*train, *held_out)]
    uses = [(train, "trained on"), (held_out, "held out"), (rest, "not used")]
    words = [
        f"{listed(_names(root, paths))} {'is' if len(paths) == 1 else 'are'} {use}"
        for paths, use in uses
        if paths
    ]
    head = "" if root == Path() else f"{root}: "
    b = train[1] if len(train) == 2 else None
    val_a, val_b = (*held_out, None, None)[:2]
    return Layout(train[0], b, val_a, val_b, tuple(test), head + ", ".join(words))


def _sides(roles: Iterable[Role]) -> tuple[str, ...]:
    return ("a", "b") if any(side for _, side in roles) else ("",)


def _names(root: Path, paths: Iterable[Path]) -> list[str]:
    return [(path.relative_to(root) if path.is_relative_to(root) else path).as_posix() for path in paths]


def listed(names: list[str]) -> str:
    """ "A", "A and B", "A, B and C"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _beside(folder: Path, count: int, roles: Roles) -> str:
    names = _names(folder, (path for paths in roles.values() for path in paths))
    first = next((paths[0] for (split, _), paths in roles.items() if split == "train"), folder / names[0])
    return (
        f"{folder} holds {count:,} image{'' if count == 1 else 's'} beside the folder{'s' * (len(names) > 1)}"
        f" {listed(names)}; move the images into a folder of their own, or give the folders to train on, such as {first}"
    )
