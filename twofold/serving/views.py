"""The live pages as HTML: a list of runs, one run, and several side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from twofold.pages.charts import COLOURS, clocks, comparison_charts, evenly, run_charts
from twofold.pages.html import LIVE, render
from twofold.pages.run_folder import (
    RunFolder,
    differences,
    evaluation,
    facts,
    read,
    settings_by_room,
    usual_speed,
)
from twofold.read_untrusted import mark
from twofold.reporting.report import Diagnosis
from twofold.runs import DIRECTIONS
from twofold.serving.watch import Watched, summarise

FRAMES, COMPARED_FRAMES = 120, 40
"""Most sample grids of each direction: of one run, and of each of several."""

RUNS_PER_PAGE = 40

MAX_COMPARED = len(COLOURS)


def run_page(root: str, watched: Watched, diagnosis: Diagnosis, alone: bool) -> str:
    """The page of a run; without a link to the list of runs if it is `alone`.

    Args:
        root: the way from the page to the list of runs, such as `../`. All links are relative, since a proxy may show
            the monitor below an address of its own; all pages take it.
    """
    summary, folder = summarise(watched.run), read(watched.run)._replace(name=watched.name)
    if summary.too_new:
        return message_page(root, watched.name, summary.too_new)
    summary = summary._replace(speed=usual_speed(folder.timing[-10:]))
    return render(
        "run.html",
        LIVE,
        root=root,
        key=watched.key,
        alone=alone,
        run=folder,
        summary=summary,
        facts=facts(folder, summary.speed, summary.seconds_left),
        folders=[Path(str(folder.config.get(side) or "")).name for side in "ab"],
        diagnosis=diagnosis,
        evaluation=evaluation(folder.evaluation),
        frames={
            way: [(frame.label, frame.address) for frame in frames]
            for way in DIRECTIONS
            if (frames := _frames(root, watched, way, FRAMES))
        },
        charts=run_charts(folder),
        clocks=clocks([("", folder)]),
        settings=settings_by_room(folder.config),
    )


class Frame(NamedTuple):
    """A sample grid: the images seen, and its address, which changes with the file, so that browsers may keep it."""

    images: int
    address: str

    @property
    def label(self) -> str:
        return f"{self.images:,} images"


def _frames(root: str, watched: Watched, way: str, most: int) -> list[Frame]:
    """At most so many (2 or more) sample grids of a run, oldest first."""
    samples = watched.run.samples(way)
    chosen = [samples[place] for place in evenly(len(samples), most)]
    marks = [mark(file) or (0, 0, 0) for _, file in chosen]
    return [
        Frame(images, f"{root}run/{watched.key}/{file.name}?v={version:x}")
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


def list_page(root: str, shown: Listing) -> str:
    """The list of runs, with the newest samples of each."""
    cards = [
        (each, summarise(each.run), _frames(root, each, "ab", 2)[-1:])
        for each in shown.selected + shown.found
    ]
    return render("run_list.html", LIVE, root=root, listing=shown, cards=cards)


def comparison_page(root: str, runs: Sequence[Watched]) -> str:
    """Two to MAX_COMPARED runs side by side, each in its colour."""
    coloured = list(zip(runs, COLOURS, strict=False))
    folders = [read(each.run) for each in runs]
    samples = {
        way: [
            (each, colour, frames)
            for each, colour in coloured
            if (frames := _frames(root, each, way, COMPARED_FRAMES))
        ]
        for way in DIRECTIONS
    }
    return render(
        "comparison.html",
        LIVE,
        root=root,
        query=urlencode([("run", each.key) for each in runs]),
        runs=[(each, colour, summarise(each.run)) for each, colour in coloured],
        samples={way: grids for way, grids in samples.items() if grids},
        same_images=_same_images(folders),
        charts=comparison_charts([(each.name, folder) for each, folder in zip(runs, folders, strict=True)]),
        clocks=clocks(list(zip(COLOURS, folders, strict=False))),
        differences=differences([folder.config for folder in folders]),
    )


def _same_images(folders: Sequence[RunFolder]) -> bool:
    """Whether the sample grids of these runs have the same sources, as far as their settings say."""
    keys = ("a", "b", "seed", "data")
    return all(folder.config.get(key) == folders[0].config.get(key) for folder in folders for key in keys)


def message_page(root: str, title: str, message: str) -> str:
    """A page that says why something cannot be shown, with a link to the list of runs."""
    return render("message.html", LIVE, root=root, title=title, message=message)
