"""report.html: a run on one page, which opens from disk and needs no network.

Read from the run folder alone; whatever is missing or torn there is left out. Its size and the time it takes
are bounded however long the run is: curves and sample grids are thinned before anything is built from them.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from twofold.pages.charts import COLOURS, Series, chart, evenly, number, read_evenly
from twofold.pages.findings import findings_list
from twofold.pages.html import data_uri, details, page, section, table, text
from twofold.pages.slider import Frame, gallery
from twofold.runs import DIRECTIONS, Run

FRAMES, FRAME_BYTES = 24, 4_000_000  # of each direction; as text in the page, bytes take a third more
PICTURE_BYTES = 1_000_000  # of an evaluation
ROWS = 200  # of any table

LOSSES = {  # by the first word of their names
    "gan": ("Adversarial", "How far a translator is from passing its images off as real to their critic."),
    "cycle": ("Cycle", "How much an image has changed once it is translated and translated back."),
    "idt": ("Identity", "How much a translator changes an image that is already what it should be."),
    "disc": ("Critics", "How far a critic is from telling real from translated; near zero, it has won."),
    "": ("Other losses", "The rest of what this method minimises."),
}

WORDS = {
    "images": "Pairs of images, one of A and one of B, that the networks were trained on.",
    "epoch": "As many images as the larger of the two folders holds.",
    "back to A": "The translation, translated back: it should be the image that it came from.",
}

STOP = """The losses of a GAN do not say when to stop. Translators and critics are rivals: each is measured
against an opponent that keeps changing, so a flat curve can hide progress and a falling one can hide trouble.
Judge by the pictures, and by an evaluation on images that were held out."""


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
    name, found = run.path.resolve().name or "run", _read(run)
    parts = [
        _headline(name, found),
        section("How it is going", _doctor(run)),
        _evaluation(run, found.evaluation),
        section("Pictures", _samples(run)),
        section("Curves", _curves(found)),
        section("Settings", _settings(found.config)),
        section("Images", _images(found.data)),
        section("How to reproduce", _reproduce(found.starts)),
        section("Glossary", _glossary(found.metrics)),
        "<footer>Written by twofold from the run folder; nothing here is loaded from elsewhere.</footer>",
    ]
    return page(f"{name} · twofold", "\n".join(parts))


@dataclass(frozen=True)
class _Found:
    """What could be read of a run folder, rows in the order of their images; the rest is empty."""

    config: dict[Any, Any]
    data: dict[Any, Any]
    evaluation: dict[Any, Any]
    starts: list[dict[Any, Any]]
    metrics: list[dict[str, Any]]
    timing: list[dict[str, Any]]


def _read(run: Run) -> _Found:
    return _Found(
        _dict(_parsed(run.config, yaml.safe_load)),
        _dict(_parsed(run.data, json.loads)),
        _dict(_parsed(run.evaluation, json.loads)),
        [start for start in map(_dict, _list(_parsed(run.env, json.loads))) if start],
        *(
            sorted((row for row in read_evenly(log) if number(row.get("images")) is not None), key=_seen)
            for log in (run.metrics, run.timing)
        ),
    )


def _parsed(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None


def _dict(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _seen(row: dict[str, Any]) -> float:
    return row["images"]


def _headline(name: str, found: _Found) -> str:
    last, clock = (rows[-1] if rows else {} for rows in (found.metrics, found.timing))
    seen, epoch, (total, epochs) = int(last.get("images", 0)), number(last.get("epoch")), _goal(found)
    speeds = [speed for row in found.timing if (speed := number(row.get("images_per_s")))]
    facts = {
        "images seen": f"{seen:,}" + (f"<small>of {total:,}</small>" if total else ""),
        "epoch": (f"{epoch:.1f}" if epoch else "")
        + (f"<small>of {epochs:g}</small>" if epoch and epochs else ""),
        "images/s": f"{median(speeds):.3g}" if speeds else "",
        "time spent": _duration(number(clock.get("seconds")) or 0),
        "device": text(
            next((start["device"] for start in reversed(found.starts) if start.get("device")), "")
        ),
    }
    shown = "".join(f"<div><dt>{what}</dt><dd>{value}</dd></div>" for what, value in facts.items() if value)
    bar = f'<div class=bar><i style="width:{min(100.0, 100 * seen / total):.1f}%"></i></div>' if total else ""
    folders = {side: str(_dict(found.data.get(side)).get("folder") or "") for side in "ab"}
    domains = " ⇄ ".join(
        f"<b class={side}>{side.upper()}</b> {text(Path(path).name)}" for side, path in folders.items()
    )
    method = text(found.config.get("method") or "a run")
    return (
        f"<header><p class=soft>twofold · {method}</p><h1>{text(name)}</h1>"
        f"<p class=domains>{domains}</p>{bar}<dl class=facts>{shown}</dl></header>"
    )


def _doctor(run: Run) -> str:
    from twofold.evaluation.doctor import calm, examine  # with numpy, which nothing else here needs

    return findings_list(examine(run), calm(run))


def _goal(found: _Found) -> tuple[int, float]:
    """Images and epochs after which the run is done; 0 where the folder does not say."""
    training, last = _dict(found.config.get("training")), found.metrics[-1] if found.metrics else {}
    epochs = sum(number(training.get(key)) or 0 for key in ("epochs", "decay_epochs"))
    epoch = number(last.get("epoch"))
    guess = (
        round(_seen(last) / epoch) * epochs if epoch and epoch > 1e-6 else 0
    )  # an epoch's images are a whole number
    return round(number(training.get("total_images")) or guess), epochs


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s" if seconds else ""
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _evaluation(run: Run, found: dict[Any, Any]) -> str:
    if not found:
        return ""
    head = "".join(f"<th scope=col>{text(name)}</th>" for name in _list(found.get("columns")))
    rows = "".join(_verdict(_dict(row)) for row in _list(found.get("rows"))[:ROWS])
    grid = f"<table class=verdict><thead><tr><th></th>{head}</tr></thead>{rows}</table>" if rows else ""
    pictures = "".join(_pictures(run, _list(found.get("pictures"))))
    return section(
        found.get("title") or "Evaluation",
        f"<p class=lead>{text(found.get('summary') or '')}</p><div class=scroll>{grid}</div>"
        f"<p class=soft>{text(found.get('note') or '')}</p><div class=album>{pictures}</div>",
    )


def _verdict(row: dict[Any, Any]) -> str:
    cells = "".join(f"<td>{text(_figure(value))}</td>" for value in _list(row.get("values")))
    best, mark = (" class=best", " <small>best</small>") if row.get("best") else ("", "")
    return f"<tr{best}><th scope=row>{text(row.get('name') or '')}{mark}</th>{cells}</tr>"


def _figure(value: object) -> object:
    if not isinstance(value, float):
        return "–" if value is None else value
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def _pictures(run: Run, pictures: list[Any]) -> Iterator[str]:
    """Images inside the run folder, as many as fit: an evaluation.json cannot pull in any other file."""
    left, root = PICTURE_BYTES, run.path.resolve()
    kinds = {".webp": "webp", ".png": "png", ".jpg": "jpeg"}
    for picture in map(_dict, pictures):
        path = (root / str(picture.get("path"))).resolve()
        inside = path.is_relative_to(root) and path.suffix in kinds and path.is_file()
        if inside and (size := path.stat().st_size) <= left:
            left -= size
            caption = text(picture.get("caption") or "")
            address = data_uri(path.read_bytes(), kinds[path.suffix])
            yield f'<figure><img alt="{caption}" src="{address}"><figcaption>{caption}</figcaption></figure>'


def _samples(run: Run) -> str:
    frames = {direction: list(_frames(run.samples(direction))) for direction in DIRECTIONS}
    return gallery(frames) or "<p class=soft>No sample yet: the first grid appears here.</p>"


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


def _curves(found: _Found) -> str:
    if not found.metrics:
        return "<p class=soft>No curve yet: they begin with the first report of the losses.</p>"
    charts = [_losses(kind, found.metrics) for kind in LOSSES]
    charts.append(_single("Learning rate", "How far one step moves the weights.", "", "lr", found.metrics))
    charts.append(
        _single(
            "Throughput", "Pairs of images trained on in a second.", "images/s", "images_per_s", found.timing
        )
    )
    return (
        f"<p class=note>{STOP}</p><div class=charts>{''.join(charts)}</div>"
        "<p class=soft>Strong lines are smoothed; what was measured stands faint behind them. "
        "Losses are shown as they are minimised, weights included.</p>"
    )


def _names(metrics: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(name) for row in metrics for name in _dict(row.get("losses"))))


def _of_kind(kind: str, names: list[str]) -> list[str]:
    """The losses whose names begin with `kind`; those of no known kind are of kind ""."""
    heads = {name: name.partition("_")[0] for name in names}
    return [name for name, head in heads.items() if (head if head in LOSSES else "") == kind]


def _losses(kind: str, metrics: list[dict[str, Any]]) -> str:
    title, meaning = LOSSES[kind]
    free, series = list(COLOURS), []
    labels = {"a": "A", "b": "B", "ab": "A→B", "ba": "B→A"}
    for name in _of_kind(kind, _names(metrics))[: len(COLOURS)]:
        wanted = name[-1:]  # gan_ab makes images of B, disc_b judges them: both wear B's colour
        colour = free.pop(free.index(wanted) if wanted in free else -1)
        values = [number(_dict(row.get("losses")).get(name)) for row in metrics]
        series.append(Series(labels.get(name.partition("_")[2], name) if kind else name, values, colour))
    return chart(title, meaning, "loss", [*map(_seen, metrics)], series) if series else ""


def _single(title: str, meaning: str, unit: str, key: str, rows: list[dict[str, Any]]) -> str:
    values = [number(row.get(key)) for row in rows]
    series = [Series(title, values, "d")]
    return chart(title, meaning, unit, [*map(_seen, rows)], series) if any(values) else ""


def _settings(config: dict[Any, Any]) -> str:
    parts = {"run": {key: value for key, value in config.items() if not isinstance(value, dict)}}
    parts |= {key: value for key, value in config.items() if isinstance(value, dict)}
    return "".join(details(key, table(islice(_flat(value), ROWS))) for key, value in parts.items() if value)


def _flat(values: dict[Any, Any], before: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", "–" if value is None else value


def _images(data: dict[Any, Any]) -> str:
    sides = "".join(_side(side, found) for side in "ab" if (found := _dict(data.get(side))))
    return f"<div class=sides>{sides}</div>" if sides else ""


def _side(side: str, found: dict[Any, Any]) -> str:
    files, held, skipped = (_list(found.get(key)) for key in ("files", "held_out", "skipped"))
    size = sum(number(_dict(file).get("bytes")) or 0 for file in files)
    counts = [
        ("folder", found.get("folder") or "–"),
        ("images", f"{len(files):,} ({size / 1e6:,.1f} MB)"),
        ("held out", f"{len(held):,}"),
        ("skipped", f"{len(skipped):,}"),
    ]
    reasons = [(file.get("name", "?"), file.get("reason", "")) for file in map(_dict, skipped[:ROWS])]
    rest = [("…", f"and {len(skipped) - ROWS:,} more")] if len(skipped) > ROWS else []
    why = details("Skipped, and why", table(reasons + rest)) if reasons else ""
    return f"<div><h3 class={side}>Domain {side.upper()}</h3>{table(counts)}{why}</div>"


def _reproduce(starts: list[dict[Any, Any]]) -> str:
    if not starts:
        return ""
    parts = [f"<pre>{text(starts[0].get('command') or '')}</pre>"]
    for place, start in enumerate(starts[:ROWS]):
        title = f"Started at {start.get('images', '?')} images"
        parts.append(details(title, table(islice(_flat(start), ROWS)), unfolded=place == 0))
    return "".join(parts)


def _glossary(metrics: list[dict[str, Any]]) -> str:
    words, names = dict(WORDS), _names(metrics)
    for kind, (_, meaning) in LOSSES.items():
        words |= {", ".join(same): meaning for same in [_of_kind(kind, names)[:ROWS]] if same}
    terms = "".join(f"<dt>{text(word)}</dt><dd>{meaning}</dd>" for word, meaning in words.items())
    return f"<dl class=glossary>{terms}</dl>"
