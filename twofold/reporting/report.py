"""report.html: a run on one page, which opens from disk and needs no network.

It is written from the run folder alone. Its size and the time it takes are bounded however long the run is: curves
and sample grids are thinned before anything is made of them.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from twofold.files import write_atomically
from twofold.pages import run_folder
from twofold.pages.charts import LOSSES, clocks, evenly, losses_by_kind, run_charts
from twofold.pages.html import data_uri, render
from twofold.pages.run_folder import ROWS, RunFolder
from twofold.read_untrusted import as_dict, as_list, number, parse_file, room
from twofold.runs import DIRECTIONS, Run

FRAMES, FRAME_BYTES = 24, 4_000_000
"""Most sample grids of each direction and their most bytes; as base64 they take a third more."""

PICTURE_BYTES = 1_000_000
"""Most bytes of an evaluation's pictures."""

GLOSSARY = {
    "images": "Pairs of images, one of A and one of B, that the networks were trained on.",
    "epoch": "As many images as the larger of the two folders holds.",
    "back to A": "The translation, translated back. It should equal the source.",
    "change": "The difference between a translation and its source; grey means no difference.",
}


def write_report(run: Run) -> Path:
    """Write the run's report.html, whole or not at all, and return its path.

    Raises:
        OSError: the folder cannot be written to; an older report stays as it was.
    """
    folder, data = run_folder.read(run), as_dict(parse_file(run.data, json.loads))
    document = render(
        "report.html",
        run=folder,
        alone=True,
        facts=run_folder.facts(folder, run_folder.usual_speed(folder.timing)),
        folders=[Path(str(room(data, side).get("folder") or "")).name for side in "ab"],
        diagnosis=diagnose(run),
        evaluation=run_folder.evaluation(folder.evaluation),
        pictures=list(_pictures(run, as_list(folder.evaluation.get("pictures")))),
        frames={way: frames for way in DIRECTIONS if (frames := list(_frames(run.samples(way))))},
        charts=run_charts(folder),
        clocks=clocks([("", folder)]),
        settings=run_folder.settings_by_room(folder.config),
        domains=[_domain(side, data) for side in "ab" if room(data, side)],
        starts=[_start(start) for start in folder.starts[:ROWS]],
        glossary=_glossary(folder),
    )
    write_atomically(run.report, document.encode("utf-8", "replace"), shared=True)
    return run.report


class Diagnosis(NamedTuple):
    """The doctor's findings, and what to say if there is none."""

    findings: list[Any]
    calm: str


def diagnose(run: Run) -> Diagnosis:
    """What the doctor sees in the run's logs and sample grids."""
    from twofold.evaluation.doctor.examine import examine, no_problem

    return Diagnosis(examine(run), no_problem(run))


def _pictures(run: Run, pictures: list[Any]) -> Iterator[tuple[Any, str]]:
    """Captions and addresses of images inside the run folder, as many as fit; any other file is left out."""
    left, root = PICTURE_BYTES, run.path.resolve()
    kinds = {".webp": "webp", ".png": "png", ".jpg": "jpeg"}
    for picture in map(as_dict, pictures):
        path = (root / str(picture.get("path"))).resolve()
        inside = path.is_relative_to(root) and path.suffix in kinds and path.is_file()
        if inside and (size := path.stat().st_size) <= left:
            left -= size
            yield picture.get("caption") or "", data_uri(path.read_bytes(), kinds[path.suffix])


def _frames(samples: list[tuple[int, Path]]) -> Iterator[tuple[str, str]]:
    """Labels and addresses of as many whole grids as fit, evenly spaced; always the first and the newest."""
    chosen: list[tuple[int, Path]] = []
    for most in range(FRAMES, 1, -1):
        chosen = [samples[place] for place in evenly(len(samples), most)]
        if sum(path.stat().st_size for _, path in chosen) <= FRAME_BYTES:
            break
    for images, path in chosen:
        content = path.read_bytes()
        if content[:4] == b"RIFF" and len(content) >= 8 + int.from_bytes(content[4:8], "little"):
            yield f"{images:,} images", data_uri(content, "webp")


def _domain(side: str, data: dict[Any, Any]) -> dict[str, Any]:
    """The images of domain "a" or "b" in data.json's content: counts, and the skipped files with the reasons."""
    from twofold.evaluation.doctor.folder import contract_of, files
    from twofold.translation.header import contract_in_words

    domain = room(data, side)
    rows = [*map(as_dict, as_list(domain.get("files")))]
    skipped = [row for row in rows if row.get("error")]
    megabytes = sum(number(row.get("bytes")) or 0 for row in rows) / 1e6
    counts = [
        ("folder", domain.get("folder") or "–"),
        ("images", f"{len(rows) - len(skipped):,} ({megabytes:,.1f} MB)"),
        ("held out", f"{len(files(data, side).held_out):,}"),
        ("skipped", f"{len(skipped):,}"),
        ("values", contract_in_words(contract_of(domain))),
    ]
    reasons = [(row.get("name", "?"), row["error"]) for row in skipped[:ROWS]]
    more = [("…", f"and {len(skipped) - ROWS:,} more")] if len(skipped) > ROWS else []
    return {"side": side, "counts": counts, "skipped": reasons + more}


def _start(start: dict[Any, Any]) -> dict[str, Any]:
    rows = run_folder.table({key: value for key, value in start.items() if key != "command"})
    return {"images": start.get("images", "?"), "command": str(start.get("command") or ""), "rows": rows}


def _glossary(folder: RunFolder) -> dict[str, str]:
    kinds = losses_by_kind(folder.metrics)
    return GLOSSARY | {", ".join(names[:ROWS]): LOSSES[kind][1] for kind, names in kinds.items()}
