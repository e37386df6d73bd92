"""report.html: a run on one page, which opens from disk and needs no network.

Read from the run folder alone; whatever is missing or torn there is left out. Its size and the time it takes
are bounded however long the run is: curves and sample grids are thinned before anything is built from them.
"""

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from twofold.pages.charts import evenly
from twofold.pages.curves import curves, words
from twofold.pages.findings import findings_list
from twofold.pages.folder import (
    Found,
    device,
    duration,
    headline,
    pace,
    paired,
    progress,
    read,
)
from twofold.pages.html import data_uri, details, page, section, table, text
from twofold.pages.slider import NOTHING_YET, Frame, gallery
from twofold.pages.tables import ROWS, evaluation, flat, settings
from twofold.read_untrusted import as_dict, as_list, number, parse_file
from twofold.runs import DIRECTIONS, Run

FRAMES, FRAME_BYTES = 24, 4_000_000  # of each direction; as text in the page, bytes take a third more
PICTURE_BYTES = 1_000_000  # of an evaluation

WORDS = {
    "images": "Pairs of images, one of A and one of B, that the networks were trained on.",
    "epoch": "As many images as the larger of the two folders holds.",
    "back to A": "The translation, translated back: it should be the image that it came from.",
    "change": "By how much a translation differs from its source; grey where it does not.",
}


def write_report(run: Run) -> Path:
    """Write the run's report.html, whole or not at all, and return its path.

    Raises:
        OSError: the folder cannot be written to; an older report is left as it was.
    """
    content = _report(run).encode("utf-8", "replace")
    aside = run.report.with_name(f".report-{os.getpid()}.html")
    try:
        aside.write_bytes(content)
        aside.replace(run.report)
    finally:
        aside.unlink(missing_ok=True)
    return run.report


def _report(run: Run) -> str:
    found, data = read(run), as_dict(parse_file(run.data, json.loads))
    parts = [
        _headline(found, data),
        section("How it is going", _doctor(run)),
        evaluation(found.evaluation, "".join(_pictures(run, as_list(found.evaluation.get("pictures"))))),
        section("Pictures", _samples(run, paired(found))),
        section("Curves", curves(found)),
        section("Settings", settings(found.config)),
        section("Images", _images(data)),
        section("How to reproduce", _reproduce(found.starts)),
        section("Glossary", _glossary(found)),
        "<footer>Written by twofold from the run folder; nothing here is loaded from elsewhere.</footer>",
    ]
    return page(f"{found.name} · twofold", "\n".join(parts))


def _headline(found: Found, data: dict[Any, Any]) -> str:
    spent = number(found.timing[-1].get("seconds")) if found.timing else 0
    usual = pace(found.timing)
    facts = progress(found) | {
        "images/s": f"{usual:.3g}" if usual else "",
        "time spent": duration(spent or 0),
        "device": device(found),
    }
    folders = {side: str(as_dict(data.get(side)).get("folder") or "") for side in "ab"}
    return headline(found, folders, facts)


def _doctor(run: Run) -> str:
    from twofold.evaluation.doctor.examine import examine, no_problem

    return findings_list(examine(run), no_problem(run))


def _pictures(run: Run, pictures: list[Any]) -> Iterator[str]:
    """Images inside the run folder, as many as fit: an evaluation.json cannot pull in any other file."""
    left, root = PICTURE_BYTES, run.path.resolve()
    kinds = {".webp": "webp", ".png": "png", ".jpg": "jpeg"}
    for picture in map(as_dict, pictures):
        path = (root / str(picture.get("path"))).resolve()
        inside = path.is_relative_to(root) and path.suffix in kinds and path.is_file()
        if inside and (size := path.stat().st_size) <= left:
            left -= size
            caption = text(picture.get("caption") or "")
            address = data_uri(path.read_bytes(), kinds[path.suffix])
            yield f'<figure><img alt="{caption}" src="{address}"><figcaption>{caption}</figcaption></figure>'


def _samples(run: Run, answered: bool) -> str:
    frames = {direction: list(_frames(run.samples(direction))) for direction in DIRECTIONS}
    return gallery(frames, answered) or NOTHING_YET


def _frames(samples: list[tuple[int, Path]]) -> Iterator[Frame]:
    """As many whole grids as fit, evenly spaced; the first and the newest whatever they weigh."""
    chosen: list[tuple[int, Path]] = []
    for most in range(FRAMES, 1, -1):
        chosen = [samples[place] for place in evenly(len(samples), most)]
        if sum(path.stat().st_size for _, path in chosen) <= FRAME_BYTES:
            break
    for images, path in chosen:
        content = path.read_bytes()
        if content[:4] == b"RIFF" and len(content) >= 8 + int.from_bytes(content[4:8], "little"):
            yield Frame(f"{images:,} images", data_uri(content, "webp"))


def _images(data: dict[Any, Any]) -> str:
    sides = "".join(_side(side, found) for side in "ab" if (found := as_dict(data.get(side))))
    return f"<div class=sides>{sides}</div>" if sides else ""


def _side(side: str, found: dict[Any, Any]) -> str:
    files, held = [*map(as_dict, as_list(found.get("files")))], as_list(found.get("held_out"))
    skipped = [file for file in files if file.get("error")]
    size = sum(number(file.get("bytes")) or 0 for file in files)
    counts = [
        ("folder", found.get("folder") or "–"),
        ("images", f"{len(files) - len(skipped):,} ({size / 1e6:,.1f} MB)"),
        ("held out", f"{len(held):,}"),
        ("skipped", f"{len(skipped):,}"),
    ]
    reasons = [(file.get("name", "?"), file.get("error", "")) for file in skipped[:ROWS]]
    rest = [("…", f"and {len(skipped) - ROWS:,} more")] if len(skipped) > ROWS else []
    why = details("Skipped, and why", table(reasons + rest)) if reasons else ""
    return f"<div><h3 class={side}>Domain {side.upper()}</h3>{table(counts)}{why}</div>"


def _reproduce(starts: list[dict[Any, Any]]) -> str:
    if not starts:
        return ""
    parts = [f"<pre>{text(starts[0].get('command') or '')}</pre>"]
    for place, start in enumerate(starts[:ROWS]):
        title = f"Started at {start.get('images', '?')} images"
        parts.append(details(title, table(islice(flat(start), ROWS)), unfolded=place == 0))
    return "".join(parts)


def _glossary(found: Found) -> str:
    terms = (WORDS | words(found.metrics)).items()
    return f"<dl class=glossary>{''.join(f'<dt>{text(word)}</dt><dd>{meaning}</dd>' for word, meaning in terms)}</dl>"
