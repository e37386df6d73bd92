"""The live pages' HTML: a list of runs, one run, and several side by side.

What stands under `data-part` is looked after by live.js: it fetches the page again and changes what differs.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlencode

from twofold.pages.charts import COLOURS, evenly
from twofold.pages.curves import compared, curves
from twofold.pages.folder import (
    bar,
    device,
    duration,
    goal,
    headline,
    pace,
    paired,
    progress,
    read,
)
from twofold.pages.html import page, section, text
from twofold.pages.slider import NOTHING_YET, Frame, gallery, switch
from twofold.pages.tables import evaluation, settings
from twofold.read_untrusted import mark, number
from twofold.runs import DIRECTIONS
from twofold.serving.watch import Glance, Watched, glance, state, too_new, touched

FRAMES = 120  # sample grids of each direction that the slider reaches
AT_ONCE = 40  # runs on a page of the list
MOST = len(COLOURS)
"""Runs that can be compared."""


def one(each: Watched, doctor: str, alone: bool) -> str:
    """The page of a run; `doctor` is HTML of the doctor's words, `alone` if there is no other to go back to."""
    found, run = read(each.run), each.run
    if problem := too_new(found.config):
        return trouble(each.name, problem)
    speed = pace(found.timing[-10:])
    doing = state(found.config, found.last, speed, time.time() - touched(run))
    seen = Glance(found.config, found.last, speed, doing)
    spent = number(found.timing[-1].get("seconds")) if found.timing else 0
    facts = progress(found) | {
        "images/s": f"{speed:.3g}" if speed else "",
        "time left": duration(seen.left),
        "time spent": duration(spent or 0),
        "device": device(found),
    }
    folders = {side: str(found.config.get(side) or "") for side in "ab"}
    frames = {direction: list(_frames(each, direction)) for direction in DIRECTIONS}
    body = [
        "" if alone else "<nav class=trail><a href=/>← All runs</a></nav>",
        part("head", headline(found, folders, facts, status(seen, touched(run)))),
        section("How it is going", part("doctor", doctor)),
        part("evaluation", evaluation(found.evaluation)),
        section("Pictures", part("pictures", gallery(frames, paired(found)) or NOTHING_YET)),
        section("Curves", part("curves", curves(found))),
        section("Settings", part("settings", settings(found.config))),
    ]
    return _page(f"{_percent(seen)}{each.name}", body)


def _frames(each: Watched, direction: str) -> list[Frame]:
    found = each.run.samples(direction)
    chosen = [found[place] for place in evenly(len(found), FRAMES)]
    return [Frame(f"{images:,} images", address(each, images, direction)) for images, _ in chosen]


def address(each: Watched, images: int, direction: str) -> str:
    """Where a sample grid is served; another one whenever the file has changed, so that it can be kept for good."""
    file = each.run.sample(images, direction)
    version = (mark(file) or (0, 0, 0))[2]
    return f"/run/{each.key}/{file.name}?v={version:x}"


def status(seen: Glance, at: float) -> str:
    """What a run is doing, and since when."""
    words = {
        "training": "training · last report",
        "starting": "starting · settings written",
        "quiet": "quiet · last report",
        "finished": "finished",
    }
    return f"<p class=status><i class={seen.state}></i><span>{words[seen.state]} {_ago(at)}</span></p>"


def _ago(at: float) -> str:
    return f"<time data-at={at:.0f}>{duration(max(1.0, time.time() - at))} ago</time>"


def _percent(seen: Glance) -> str:
    total, _ = goal(seen.config, seen.last)
    return f"{min(1.0, seen.last.get('images', 0) / total):.0%} · " if total else ""


class Listing(NamedTuple):
    """A page of the list of runs: those that were ticked, then some of those whose name has `find` in it."""

    runs: int
    find: str
    ticked: list[Watched]
    found: list[Watched]
    page: int
    pages: int


def listing(runs: Sequence[Watched], ticked: Sequence[str], find: str, page: int) -> Listing:
    """Choose what the list shows; a page that there is not is the nearest one."""
    picked = [each for each in runs if each.key in ticked]
    matching = [each for each in runs if find.lower() in each.name.lower() and each not in picked]
    pages = max(1, -(-len(matching) // AT_ONCE))
    here = min(max(1, page), pages)
    return Listing(len(runs), find, picked, matching[(here - 1) * AT_ONCE : here * AT_ONCE], here, pages)


def every(shown: Listing) -> str:
    """The list of runs."""
    cards = [_card(each, ticked=True) for each in shown.ticked] + [_card(each) for each in shown.found]
    nothing = (
        "No run has such a name." if shown.find else "No run here yet: it appears as soon as one starts."
    )
    runs = f"<ul class=runs>{''.join(cards)}</ul>" if cards else f"<p class=soft>{nothing}</p>"
    body = f"""<header><p class=soft>twofold · monitor</p><h1 data-part=count>{_count(shown.runs)}</h1></header>
<form action=/ class=finder>
<div class=tools><input type=search name=find value="{text(shown.find)}" placeholder="Find by name" aria-label="Find by name">
<button>Find</button><button formaction=/compare class=strong>Compare the ticked</button></div>
{part("runs", runs)}
{part("pages", _pages(shown.page, shown.pages))}
</form>"""
    return _page("Runs", [body])


def _count(runs: int) -> str:
    return f"{runs:,} {'run' if runs == 1 else 'runs'}"


def _card(each: Watched, ticked: bool = False) -> str:
    seen = glance(each)
    newest = each.run.samples("ab")[-1:]
    picture = "".join(
        f'<img alt="" loading=lazy src="{address(each, images, "ab")}">' for images, _ in newest
    )
    if problem := too_new(seen.config):
        words = f"<p class=soft>{text(problem)}</p>"
    else:
        facts = [
            f"{int(seen.last.get('images', 0)):,} images",
            f"{seen.speed:.3g} images/s" if seen.speed else "",
            f"{duration(seen.left)} left" if seen.left else "",
            text(seen.config.get("method") or ""),
        ]
        words = (
            f"{status(seen, touched(each.run))}{bar(seen.config, seen.last)}"
            f"<p class=soft>{' · '.join(filter(None, facts))}</p>"
        )
    return (
        f'<li data-key="{each.key}"><input type=checkbox name=run value="{each.key}"{" checked" * ticked}'
        f' aria-label="Compare {text(each.name)}">'
        f'<a href="/run/{each.key}"><span class=strip>{picture}</span><b>{text(each.name)}</b></a>'
        f"<div>{words}</div></li>"
    )


def _pages(here: int, pages: int) -> str:
    if pages == 1:
        return ""
    turns = [("← Newer", here - 1, here > 1), ("Older →", here + 1, here < pages)]
    buttons = [
        f"<button name=page value={to}{'' if can else ' disabled'}>{word}</button>" for word, to, can in turns
    ]
    return f"<div class=pages>{buttons[0]}<span>{here} of {pages}</span>{buttons[1]}</div>"


def several(runs: Sequence[Watched]) -> str:
    """Two runs and more, at most MOST, side by side: a colour each."""
    rows = "".join(_row(each, colour) for each, colour in zip(runs, COLOURS, strict=False))
    table = (
        "<div class=scroll><table class=side-by-side><thead><tr><th scope=col>Run</th><th scope=col>Images</th>"
        f"<th scope=col>Epoch</th><th scope=col>Images/s</th><th scope=col>Left</th></tr></thead>{rows}</table></div>"
    )
    chosen = urlencode([("run", each.key) for each in runs])
    body = [
        f'<nav class=trail><a href="/?{chosen}">← All runs</a></nav>',
        f"<header><p class=soft>twofold · monitor</p><h1>{_count(len(runs))} side by side</h1></header>",
        part("table", table),
        section("Pictures", part("album", _album(runs))),
        section("Curves", part("curves", compared([(each.name, read(each.run)) for each in runs]))),
    ]
    return _page("Side by side", body)


def _row(each: Watched, colour: str) -> str:
    seen = glance(each)
    total, epochs = goal(seen.config, seen.last)
    epoch = number(seen.last.get("epoch"))
    cells = [
        f"{int(seen.last.get('images', 0)):,}" + (f" <small>of {total:,}</small>" if total else ""),
        (f"{epoch:.1f}" if epoch else "–") + (f" <small>of {epochs:g}</small>" if epoch and epochs else ""),
        f"{seen.speed:.3g}" if seen.speed else "–",
        duration(seen.left) or ("done" if seen.state == "finished" else "–"),
    ]
    link = f'<a href="/run/{each.key}">{text(each.name)}</a>'
    figures = "".join(f"<td>{cell}</td>" for cell in cells)
    name = f"<th scope=row><span class=swatch><i class={colour}></i>{link}</span>{status(seen, touched(each.run))}</th>"
    return f"<tr>{name}{figures}</tr>"


def _album(runs: Sequence[Watched]) -> str:
    """The newest sample grid of every run, by direction."""
    found = {direction: _newest(runs, direction) for direction in DIRECTIONS}
    shown = {direction: figures for direction, figures in found.items() if figures}
    panels = "".join(
        f"<div class=panel data-direction={direction}><div class=beside>{figures}</div></div>"
        for direction, figures in shown.items()
    )
    return switch(list(shown)) + panels or NOTHING_YET


def _newest(runs: Sequence[Watched], direction: str) -> str:
    figures = []
    for each, colour in zip(runs, COLOURS, strict=False):
        for images, _ in each.run.samples(direction)[-1:]:
            caption = f"<b class={colour}>{text(each.name)}</b> after {images:,} images"
            picture = (
                f'<img alt="Newest samples of {text(each.name)}" src="{address(each, images, direction)}">'
            )
            figures.append(f"<figure><figcaption>{caption}</figcaption>{picture}</figure>")
    return "".join(figures)


def trouble(title: str, words: str) -> str:
    """A page for what cannot be shown: why, and the way back."""
    body = f"<header><h1>{text(title)}</h1></header>{part('problem', f'<p class=note>{text(words)}</p>')}<p><a href=/>All runs</a></p>"
    return _page(title, [body])


def part(name: str, body: str) -> str:
    """A part of the page that is kept up to date."""
    return f"<div data-part={name}>{body}</div>"


def _page(title: str, body: list[str]) -> str:
    live = "<p class=lost role=status hidden></p>"
    foot = "<footer>Read from the run folders; this page keeps itself up to date.</footer>"
    return page(f"{title} · twofold", "\n".join([live, *body, foot]), live=True)
