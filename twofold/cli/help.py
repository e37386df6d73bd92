"""Help pages: each option under one name, and the less common settings only with --help-all."""

import re

from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel
from rich.console import Console, ConsoleOptions

SETTINGS = "Settings: "
"""What the titles of the panels begin with that only --help-all shows."""

DEFAULTS = {"True": "on", "False": "off", "()": "none"}
"""Default values in plainer words."""


class OneNameFormatter(DefaultFormatter):
    """Cyclopts' panels, with one name for each option; those of all settings only if `everything`."""

    def __init__(self, everything: bool) -> None:
        super().__init__()
        self.everything = everything

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        if not str(panel.title).startswith(SETTINGS) or self.everything:
            entries = [under_one_name(entry) for entry in panel.entries]
            super().__call__(console, options, panel.copy(entries=entries))


def under_one_name(entry: HelpEntry) -> HelpEntry:
    """Leave out second names, write --flip and --no-flip as --[no-]flip, and put the default in plain words."""
    names, negatives, default = entry.positive_names[:1], entry.negative_names[:1], entry.default
    if negatives and re.search(r"[-.]no-", negatives[0]):
        names, negatives = (negatives[0].replace("no-", r"\[no-]", 1),), ()
    if default is not None:
        default = DEFAULTS.get(default, default.strip("()").replace(", ", ","))
    return entry.copy(positive_names=names, negative_names=negatives, default=default)
