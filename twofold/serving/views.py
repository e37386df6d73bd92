"""The live pages as HTML: a list of runs, one run, and several side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from twofold.pages.charts import COLOURS, comparison_charts, evenly, run_charts
from twofold.pages.html import render
from twofold.pages.run_folder import evaluation, facts, read, settings_by_room, usual_speed
from twofold.read_untrusted import mark
from twofold.reporting.report import Diagnosis
from twofold.runs import DIRECTIONS
from twofold.serving.watch import Watched, summarise

FRAMES = 120
"""Most sample grids of each direction."""

RUNS_PER_PAGE = 40

MAX_COMPARED = len(COLOURS)


def run_page(watched: Watched, diagnosis: Diagnosis, alone: bool) -> str:
    """The page of a run; without a link to the list of runs if it is `alone`."""
    summary, folder = summarise(watched.run), read(watched.run)._replace(name=watched.name)
    if summary.too_new:
        return message_page(watched.name, summary.too_new)
    summary = summary._replace(speed=usual_speed(folder.timing[-10:]))
    return render(
        "run.html",
        live=True,
        alone=alone,
        run=folder,
        summary=summary,
        facts=facts(folder, summary.speed, summary.seconds_left),
        folders=[Path(str(folder.config.get(side) or "")).name for side in "ab"],
        diagnosis=diagnosis,
        evaluation=evaluation(folder.evaluation),
        frames={
            way: _frames(watched, samples) for way in DIRECTIONS if (samples := watched.run.samples(way))
        },
        charts=run_charts(folder),
        settings=settings_by_room(folder.config),
    )


def _frames(watched: Watched, samples: list[tuple[int, Path]]) -> list[tuple[str, str]]:
    """Labels and addresses of at most FRAMES sample grids; an address changes with its file, so browsers may keep it."""
    chosen = [samples[place] for place in evenly(len(samples), FRAMES)]
    marks = [mark(file) or (0, 0, 0) for _, file in chosen]
    return [
        (f"{images:,} images", f"/run/{watched.key}/{file.name}?v={version:x}")
        for (images, file), (*_, version) in zip(chosen, marks, strict=True)
    ]


class Listing(NamedTuple):
    """A page of the list of runs: the selected ones, then some of those whose name contains `find`."""

    runs: int
    find: str
    selected: list[Watched]
    found: list[Watched]
    page: int
    pages: int


def listing(runs: Sequence[Watched], keys: Sequence[str], find: str, page: int) -> Listing:
    """Choose what the list shows; `keys` are those of the selected runs. A page out of range is the nearest one."""
    selected = [each for each in runs if each.key in keys]
    matching = [each for each in runs if find.lower() in each.name.lower() and each not in selected]
    pages = max(1, -(-len(matching) // RUNS_PER_PAGE))
    page = min(max(1, page), pages)
    found = matching[(page - 1) * RUNS_PER_PAGE : page * RUNS_PER_PAGE]
    return Listing(len(runs), find, selected, found, page, pages)


def list_page(shown: Listing) -> str:
    """The list of runs, with the newest samples of each."""
    cards = [
        (each, summarise(each.run), _frames(each, each.run.samples("ab")[-1:]))
        for each in shown.selected + shown.found
    ]
    return render("run_list.html", live=True, listing=shown, cards=cards)


def comparison_page(runs: Sequence[Watched]) -> str:
    """Two to MAX_COMPARED runs side by side, each in its colour."""
    coloured = list(zip(runs, COLOURS, strict=False))
    samples = {
        way: [
            (each, colour, *newest)
            for each, colour in coloured
            for newest in _frames(each, each.run.samples(way)[-1:])
        ]
        for way in DIRECTIONS
    }
    return render(
        "comparison.html",
        live=True,
        query=urlencode([("run", each.key) for each in runs]),
        runs=[(each, colour, summarise(each.run)) for each, colour in coloured],
        samples={way: newest for way, newest in samples.items() if newest},
        charts=comparison_charts([(each.name, read(each.run)) for each in runs]),
    )


def message_page(title: str, message: str) -> str:
    """A page that says why something cannot be shown, with a link to the list of runs."""
    return render("message.html", live=True, title=title, message=message)
