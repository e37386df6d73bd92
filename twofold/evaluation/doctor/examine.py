"""What is wrong with a run, in plain words, and what to try next: read from its folder alone.

`examine` works on a run that is going on, finished, old, empty or damaged; what cannot be read is left out or
said. The symptoms themselves stand in `symptoms` (logs) and `appearance` (pictures), each a pure function.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from twofold.evaluation.doctor import appearance, symptoms
from twofold.evaluation.doctor.appearance import Pictures
from twofold.evaluation.doctor.folder import cells, count, files, number
from twofold.evaluation.doctor.symptoms import Finding
from twofold.read_untrusted import Mark, mapping, mark, room
from twofold.runs import Run, read_lines

NEWEST = 1000
"""Lines of each log that are read: five times a run's reports at the default interval."""

YOUNG, YOUNG_SHARE = 200, 0.1
"""Pictures are not judged before so many images, or before this share of the training: all of them look ill."""

EARLIER = 3
"""Sample grids before the newest that are looked at."""

SEEN = 0.2
"""A distance of images in [-1, 1], 25 of 255 levels: below it a loss may leap by any factor, and none sees it."""

ADVERSARIAL = {"pix2pix": "bce"}
"""The adversarial loss of a method whose config does not name it; lsgan for the others."""


class Case(NamedTuple):
    """What could be read of a run folder."""

    run: Run
    config: dict[Any, Any]
    losses: dict[str, list[float]]
    """By name, a value a report; NaN where one lacks it."""
    stopped: dict[int, list[str]]
    """Image counts at which the training ended because losses were no numbers, and their names."""
    waiting: list[float]
    seen: int
    """Images."""
    total: float
    """Images to train for; infinite where the folder does not say, so that nothing is called late."""


def examine(run: Run, *, models: bool = False) -> list[Finding]:
    """Everything found wrong, the worst first; empty for a run that seems well.

    Args:
        models: also try the newest models and critics on a few images, which takes seconds; without, the logs, the
            file list and the sample grids are read, in 0.2 s on a busy slow core, or 0.02 s where no grid is new.
    """
    case = read(run)
    found = [*of_folder(case), *of_logs(case), *of_data(run), *of_pictures(case)]
    if models:
        from twofold.evaluation.doctor import models as trial

        found += trial.findings(run, case.config)
    return sorted(causes(found), key=lambda finding: finding.severity != "trouble")


def causes(found: list[Finding]) -> list[Finding]:
    """Without what only follows from another: a critic always wins against a translator that copies or collapsed,
    and one picture for everything has a texture of its own."""
    follow: set[str] = set()
    for way in ("A→B", "B→A"):
        ill = {each.name.removeprefix(way) for each in found if each.name.startswith(way)}
        if ill & {" copies", " collapsed"}:
            follow |= {f"critic of {way[2]} won", f"critic of {way[2]} winning"}
        if " collapsed" in ill:
            follow |= {f"{way} checkerboard"}
    return [each for each in found if each.name not in follow]


def calm(run: Run) -> str:
    """What to say of a run in which nothing was found."""
    seen = read(run).seen
    if not seen:
        return "Nothing to judge yet: the first report of the losses is still to come."
    return f"Nothing wrong to be seen after {seen:,} images. Whether it is good, the pictures and `twofold evaluate` say."


def read(run: Run) -> Case:
    """A run folder, as far as it can be read."""
    config = mapping(run.config)
    rows = [row for row in read_lines(run.metrics, NEWEST) if count(row.get("images"))]
    kept = [row for row in rows if isinstance(row.get("losses"), dict)]
    names = dict.fromkeys(str(name) for row in kept for name in row["losses"])
    epoch = next(
        (row["images"] / row["epoch"] for row in reversed(kept) if number(row.get("epoch")) > 0), math.inf
    )
    training = room(config, "training")
    epochs = number(training.get("epochs")) + number(training.get("decay_epochs"))
    return Case(
        run,
        config,
        {name: [number(row["losses"].get(name)) for row in kept] for name in names},
        {
            row["images"]: [*map(str, row["not_finite"])]
            for row in rows
            if isinstance(row.get("not_finite"), list)
        },
        [number(row.get("waiting")) for row in read_lines(run.timing, NEWEST) if "waiting" in row],
        max((row["images"] for row in rows), default=0),
        epochs * epoch if epochs > 0 else math.inf,
    )


def of_folder(case: Case) -> Iterator[Finding]:
    """Parts of the folder that are missing or damaged."""
    run = case.run
    if not run.exists:
        yield Finding(
            "no run",
            "watch",
            f"{run.path} holds no run: there is no config.yaml.",
            f"Start one: `twofold train A B --out {run.path}`.",
        )
        return
    if not case.config:
        yield damaged(run.config)


def damaged(path: Path) -> Finding:
    return Finding(
        f"{path.name} damaged",
        "trouble",
        f"{path.name} {'cannot be read' if path.exists() else 'is missing'}, so this run can neither be judged in full"
        " nor gone on with.",
        "Restore it from a copy, or start anew with another --out.",
    )


def of_logs(case: Case) -> Iterator[Finding]:
    """What losses and timing show."""
    method = str(case.config.get("method", "cyclegan"))
    loss = room(case.config, "adversarial").get("loss") or room(case.config, "cyclegan").get("adversarial")
    loss = str(loss or ADVERSARIAL.get(method, "lsgan"))
    weights = room(case.config, "cut" if method == "fastcut" else method)
    found: list[Finding | None] = [symptoms.not_finite(case.losses, case.stopped)]
    floors = {name: SEEN * number(weight) for name, weight in distances(weights).items()}
    for side, critic, rival in (("A", "disc_a", "gan_ba"), ("B", "disc_b", "gan_ab")):
        weight = number(weights.get(rival, weights.get("gan", 1.0)))
        undecided = symptoms.UNDECIDED.get(loss, math.inf)
        floors |= {critic: 4 * undecided, rival: 4 * undecided * max(weight, 1.0)}
        if critic in case.losses and rival in case.losses:
            found.append(symptoms.critic_won(case.losses[critic], case.losses[rival], loss, weight, side))
    found.append(symptoms.spikes(case.losses, floors))
    cached = room(case.config, "data").get("cache") is not False
    found.append(symptoms.starved(case.waiting, cached))
    yield from filter(None, found)


def distances(weights: dict[Any, Any]) -> dict[str, float]:
    """The weights of the losses that are distances of images."""
    a, b, share = (number(weights.get(key)) for key in ("cycle_a", "cycle_b", "identity"))
    return {
        "cycle_a": a,
        "cycle_b": b,
        "idt_a": share * a,
        "idt_b": share * b,
        "l1": number(weights.get("distance")),
    }


def of_data(run: Run) -> tuple[Finding, ...]:
    """What the frozen file list shows."""
    try:
        status = run.data.stat()
    except OSError:
        return (damaged(run.data),) if run.exists else ()
    return _of_data(run, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _of_data(run: Run, _time: int, _size: int) -> tuple[Finding, ...]:
    """Remembered: a list of 100,000 files takes a second to read, and it never changes."""
    document = mapping(run.data)
    if not document:
        return (damaged(run.data),)
    a, b = (files(document, side) for side in "ab")
    found = [
        symptoms.leaked([file.hash for file in side.train], [file.hash for file in side.held_out], label)
        for label, side in (("A", a), ("B", b))
    ]
    found.append(symptoms.mixed_up([file.hash for file in a.train], [file.hash for file in b.train]))
    return tuple(filter(None, found))


def of_pictures(case: Case) -> list[Finding]:
    """What the newest sample grids show."""
    grids = {way: case.run.samples(way)[-EARLIER - 1 :] for way in ("ab", "ba")}
    newest = max((seen[-1][0] for seen in grids.values() if seen), default=0)
    if newest < YOUNG or (math.isfinite(case.total) and newest < YOUNG_SHARE * case.total):
        return []
    stamped = tuple((way, path, mark(path)) for way, seen in grids.items() for _, path in seen)
    data = room(case.config, "data")
    return [*_of_pictures(stamped, not (data.get("paired") or data.get("lab")))]


@lru_cache(maxsize=256)
def _of_pictures(grids: tuple[tuple[str, Path, Mark | None], ...], free: bool) -> tuple[Finding, ...]:
    """Remembered by the files' marks, for whoever asks again and again.

    Args:
        grids: (direction, file, mark), oldest first.
        free: whether the training finds out for itself what a translation should look like; with pairs, inverted or
            unchanged colours can be the right answer.
    """
    shown: dict[str, list[list[Pictures]]] = {"ab": [], "ba": []}
    for way, path, _ in grids:
        if columns := cells(path):
            shown[way].append(columns)
    return tuple(chain.from_iterable(of_grids(way, shown, free) for way in shown))


def of_grids(way: str, shown: dict[str, list[list[Pictures]]], free: bool) -> Iterator[Finding]:
    """What one direction's grids show, each as its columns."""
    if not shown[way]:
        return
    (sources, translations, _), label = shown[way][-1], "→".join(way.upper())
    other = shown[way[::-1]]
    targets = other[-1][0] if other else None
    earlier = [columns[1] for columns in shown[way][:-1] if columns[1].shape == translations.shape]
    found = [
        appearance.collapsed(sources, translations, targets, label),
        appearance.checkerboard(sources, translations, label),
    ]
    if free and not found[0]:
        found += [
            appearance.copied(sources, translations, targets, label),
            appearance.inverted(sources, translations, label),
            appearance.colours_off(sources, translations, targets, earlier, label),
        ]
    yield from filter(None, found)
