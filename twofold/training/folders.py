"""The folders of a run in its settings: a dataset root is replaced with the folders that it holds."""

from pathlib import Path

from twofold import config as configs
from twofold.config import Config, Layer
from twofold.data.layouts import Layout, find_layout
from twofold.errors import UsageError
from twofold.methods.settings import DEFAULTS


def with_layout(overrides: Layer) -> tuple[Layer, str]:
    """The settings with the folders of a dataset root in place of the root, and the line that says their use.

    A held-out set that the user gave is kept.
    """
    found = layout_of(overrides)
    if found is None:
        return overrides, ""
    val = {"data": {"val_a": found.val_a, "val_b": found.val_b}} if found.val_a else {}
    return configs.merge(overrides, {"a": found.a, "b": found.b}, val), found.line


def with_same_layout(overrides: Layer, before: Config) -> Layer:
    """The settings for a resumed run; a dataset root, as the run may have been started with, stands for its folders."""
    given = {name: Path(overrides[name]).absolute() for name in "ab" if overrides.get(name) is not None}
    if not given or given == {name: path for name in "ab" if (path := getattr(before, name)) is not None}:
        return overrides
    known = {"method": before.method, "data": {"paired": before.data.paired, "lab": before.data.lab}}
    found = layout_of(configs.merge(known, overrides))
    if not found or not found.line:
        return overrides
    held_out = {"data": {"val_a": found.val_a, "val_b": found.val_b}} if before.data.val_a else {}
    return configs.merge(held_out, overrides, {"a": found.a, "b": found.b})


def layout_of(overrides: Layer) -> Layout | None:
    """The layout of the given folders; None where none or something else is given, which `compose` reports."""
    a, b, method = (overrides.get(name) for name in ("a", "b", "method"))
    if not isinstance(a, str | Path) or not isinstance(b, str | Path | None):
        return None
    defaults = next((own for name, own in DEFAULTS.items() if name == method), {})
    given = dict(configs.flatten(configs.merge(defaults, overrides)))
    one_folder = bool(given.get("data.paired") or given.get("data.lab"))
    val = given.get("data.val_a") is None and given.get("data.val_b") is None
    val = val and given.get("data.hold_out") is not False
    found = find_layout(Path(a), None if b is None else Path(b), one_folder, val=val)
    if found.b or one_folder:
        return found
    if not found.a.exists():
        raise UsageError(f"{found.a} does not exist; give two folders of images or a dataset root")
    return found._replace(val_a=None)  # `compose` refuses the missing folder in its own words
