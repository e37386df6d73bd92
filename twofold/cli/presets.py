"""`twofold presets`: the published recipes."""

from itertools import groupby

from twofold.cli.options import option_with_value
from twofold.cli.terminal import emit, paragraph
from twofold.presets import PRESETS, commands, find


def presets(name: str | None = None, /) -> None:
    """List the published recipes; with NAME, print its settings, their sources and the commands to type.

    Args:
        name: The preset.
    """
    if name is not None:
        show(name)
        return
    for group, members in groupby(PRESETS.items(), lambda item: item[1].group):
        emit(f"{group}:")
        for member, preset in members:
            emit(f"  {member:<24}{preset.what}")
    emit("details: twofold presets NAME        use one: twofold train A B --preset NAME")


def show(name: str) -> None:
    preset = find(name)
    emit(f"{name}: {preset.what}")
    emit(paragraph(preset.source))
    emit(f"--method {preset.method}")
    for setting, (value, source) in preset.values.items():
        emit(option_with_value(setting, value))
        if source != preset.source:
            emit(paragraph(source, "    ", "    "))
    for line in commands(name):
        emit(line)
