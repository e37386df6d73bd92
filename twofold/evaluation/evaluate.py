"""An evaluation, from a model and two folders to a table. Read `evaluate` from top to bottom."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.data.prefetch import prefetch
from twofold.errors import UsageError
from twofold.evaluation.choice import choose
from twofold.evaluation.measures import Cycles, Measure, Shot
from twofold.evaluation.subject import Item, Notify, Request, Setup, set_up
from twofold.evaluation.table import Row, Table, contact_sheet
from twofold.formats import images
from twofold.translation.translator import At

Uint8 = NDArray[np.uint8]
Track = Callable[[Iterator[Any], int, str], Iterator[Any]]

SHOWN = 8
"""Images on the contact sheet."""


def evaluate(request: Request, notify: Notify, track: Track = lambda items, total, what: items) -> Table:  # noqa: ARG005
    """Measure what a model, or a folder of translations, makes of test images.

    Args:
        say: is told what was taken for what.
        track: shows progress.

    Raises:
        UsageError: something is missing, or does not fit; one line.
    """
    setup = set_up(request, notify)
    choice = choose(request, setup, notify)
    shown: list[list[Uint8]] = []

    def watched(shots: Iterator[Shot]) -> Iterator[Shot]:
        for shot in shots:
            if len(shown) < SHOWN:
                shown.append([x for x in (shot.source, shot.output, shot.answer) if x is not None])
            yield shot

    measures = choice.measures("translated")
    shots = track(watched(translations(setup, request.at)), len(setup.items), "evaluating")
    rows = [measured("translated", shots, measures)]
    floors = choice.measures("untouched")
    if floors:
        rows.append(
            measured("untouched", track(untouched(setup), len(setup.items), "and as they were"), floors)
        )
    rows += choice.more_rows(measures)
    columns = [column for measure in measures for column in measure.columns]
    a, b = setup.direction.upper()
    table = Table(f"{a} to {b}, on {len(setup.items):,} test images", columns, rows, notes=choice.notes)
    table.summary = " ".join(in_words(table))
    table.extra = {"direction": setup.direction, "images": len(setup.items), **choice.extra(measures)}
    table.sheet = contact_sheet(list(zip(*shown, strict=True)))
    table.caption = ", ".join(["source", "translated", *["answer"] * setup.known])
    return table


def translations(setup: Setup, at: At) -> Iterator[Shot]:
    """Every item translated, or its ready translation read.

    Raises:
        UsageError: a translation and its answer are of different sizes.
    """
    into, out = setup.channels

    def read(item: Item) -> tuple[Uint8 | None, ...]:
        wanted = ((item.source, into), (item.output, out), (item.answer, out))
        return tuple(None if path is None else images.read(path, count) for path, count in wanted)

    for number, (source, output, answer) in enumerate(prefetch(read, setup.items, threads=1, depth=3)):
        if output is None:
            assert setup.there is not None and source is not None
            output = setup.there.array(source, at)
        item = setup.items[number]
        if answer is not None and answer.shape[:2] != output.shape[:2]:
            refuse_sizes(item, output, answer)
        yield Shot(number, output if source is None else source, output, answer)


def refuse_sizes(item: Item, output: Uint8, answer: Uint8) -> None:
    (rows, columns), (high, wide) = output.shape[:2], answer.shape[:2]
    raise UsageError(
        f"{item.output or item.source} comes out at {columns}×{rows} pixels, its answer {item.answer} has {wide}×{high}:"
        " bring them to one size, or say --unpaired"
    )


def untouched(setup: Setup) -> Iterator[Shot]:
    """The sources in place of translations."""
    for number, item in enumerate(setup.items):
        assert item.source is not None
        source = images.read(item.source, setup.channels[1])
        answer = None if item.answer is None else images.read(item.answer, setup.channels[1])
        if answer is not None and answer.shape[:2] != source.shape[:2]:
            refuse_sizes(item, source, answer)
        yield Shot(number, source, source, answer)


def measured(name: str, shots: Iterable[Shot], measures: Sequence[Measure]) -> Row:
    """A row of the table."""
    for shot in shots:
        for measure in measures:
            measure.see(shot)
    figures = {
        column.name: figure
        for measure in measures
        for column, figure in zip(measure.columns, measure.figures(), strict=True)
    }
    return Row(name, figures)


def in_words(table: Table) -> Iterator[str]:
    """What the figures say: the gain over what was there before, and whether the cycle cheats."""
    made = table.rows[0].figures
    before = next((row.figures for row in table.rows if row.name == "untouched"), {})
    for column in table.columns:
        if column.better and column.name in before:
            gain = made[column.name].value - before[column.name].value
            word = "better" if (gain > 0) == (column.better == "higher") else "worse"
            yield f"{column.name}: {gain:+.3g} over the untouched sources, which is {word}."
            break
    yield from hidden(made)


WORSE = 2.0
"""A cycle that gets so many times worse through a JPEG hides its source."""


def hidden(figures: dict[str, Any]) -> Iterator[str]:
    plain, jpeg = (
        figures[name].value if (name := Cycles.columns[place].name) in figures else None for place in (0, 2)
    )
    if plain is None or jpeg is None:
        return
    if jpeg > WORSE * plain:
        yield (
            f"The cycle gets {jpeg / max(plain, 1e-9):.1f} times worse once the translation is stored as a JPEG: the"
            " networks hide the source in what nobody sees."
        )
    else:
        yield "The cycle survives JPEG: the translation shows what it is rebuilt from."
