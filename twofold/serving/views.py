"""The live pages as HTML: a list of runs, one run, and several side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
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
        frames={way: frames for way in DIRECTIONS if (frames := _frames(watched, way))},
        charts=run_charts(folder),
        settings=settings_by_room(folder.config),
    )


def _frames(watched: Watched, direction: str) -> list[tuple[str, str]]:
    samples = watched.run.samples(direction)
    chosen = [samples[place] for place in evenly(len(samples), FRAMES)]
    return [(f"{images:,} images", _address(watched, images, direction)) for images, _ in chosen]


def _address(watched: Watched, images: int, direction: str) -> str:
    """Where a sample grid is served: another address whenever the file has changed, so that browsers may keep it."""
    file = watched.run.sample(images, direction)
    version = (mark(file) or (0, 0, 0))[2]
    return f"/run/{watched.key}/{file.name}?v={version:x}"


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
    cards = [_card(each, each in shown.selected) for each in shown.selected + shown.found]
    return render("run_list.html", live=True, listing=shown, cards=cards)


def _card(watched: Watched, selected: bool) -> dict[str, Any]:
    samples = [_address(watched, images, "ab") for images, _ in watched.run.samples("ab")[-1:]]
    summary = summarise(watched.run)
    return {"watched": watched, "selected": selected, "summary": summary, "samples": samples}


def comparison_page(runs: Sequence[Watched]) -> str:
    """Two to MAX_COMPARED runs side by side, each in its colour."""
    rows = [
        {"watched": each, "colour": colour, "summary": summarise(each.run)}
        for each, colour in zip(runs, COLOURS, strict=False)
    ]
    samples = {
        direction: [
            (row, images, _address(row["watched"], images, direction))
            for row in rows
            for images, _ in row["watched"].run.samples(direction)[-1:]
        ]
        for direction in DIRECTIONS
    }
    return render(
        "comparison.html",
        live=True,
        query=urlencode([("run", each.key) for each in runs]),
        runs=rows,
        samples={direction: newest for direction, newest in samples.items() if newest},
        charts=comparison_charts([(each.name, read(each.run)) for each in runs]),
    )


def message_page(title: str, message: str) -> str:
    """A page that says why something cannot be shown, with a link to the list of runs."""
    return render("message.html", live=True, title=title, message=message)
