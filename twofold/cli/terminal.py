"""What twofold writes to the terminal: messages, tables, and the progress of a run as a bar, plain lines or JSON."""

import io
import json
import math
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self, TypeVar

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Column, Table
from rich.text import Text

T = TypeVar("T")

SOON, EVERY = 2.0, 10.0
"""Seconds that a pass takes before its progress is shown as a bar, and seconds between its lines elsewhere."""


class Plain:
    """A line for each message, and a progress line every half minute."""

    def __init__(self, every: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.every, self.last, self.clock = every, -math.inf, clock

    def notify(self, line: str) -> None:
        emit(line)

    def progress(self, images: int, total: int, rate: float, losses: dict[str, float]) -> None:
        now = self.clock()
        if now - self.last >= self.every or images >= total:
            self.last = now
            left = time_left(images, total, rate)
            emit(f"{images}/{total} images  {speed(rate)}  {left} left  {mean_losses(losses)}".rstrip())

    def track(self, items: Iterator[T], total: int | None, what: str, done: int = 0) -> Iterator[T]:
        return with_lines(items, total, what, self.notify, done=done)


class Json(Plain):
    """One JSON object a line, for machines."""

    def __init__(self) -> None:
        super().__init__()
        self.reported: dict[str, float] = {}

    def notify(self, line: str) -> None:
        emit(json.dumps({"say": line}))

    def progress(self, images: int, total: int, rate: float, losses: dict[str, float]) -> None:
        if losses != self.reported:
            self.reported = losses
            row = {"images": images, "total": total, "images_per_s": round(rate, 3), "losses": losses}
            emit(json.dumps(row))


class Bar:
    """A rich progress bar in one line, with messages above it."""

    def __init__(self, console: Console) -> None:
        columns = (
            TaskProgressColumn("{task.percentage:>4.1f}%", table_column=Column(no_wrap=True, min_width=5)),
            BarColumn(None),
            TextColumn("{task.description}"),
        )
        self.bar = Progress(*columns, console=console, expand=True, transient=True)
        self.task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def notify(self, line: str) -> None:
        self.bar.console.print(Text(printable(line)), soft_wrap=True)  # a command can be copied whole

    def progress(self, images: int, total: int, rate: float, losses: dict[str, float]) -> None:
        text = f"{speed(rate)} {time_left(images, total, rate)} left {mean_losses(losses)}"
        if self.task is None:
            self.bar.start()
            self.task = self.bar.add_task(text, total=total, completed=images)
        self.bar.update(self.task, completed=images, description=text)

    def track(self, items: Iterator[T], total: int | None, what: str, done: int = 0) -> Iterator[T]:
        return with_bar(items, total, what, self.bar.console, done)


Watcher = Plain | Bar


def watcher(as_json: bool) -> AbstractContextManager[Watcher]:
    """JSON if wanted, a progress bar on a terminal, plain lines elsewhere."""
    console = Console(stderr=True)
    is_bar = console.is_terminal and not as_json
    return Bar(console) if is_bar else nullcontext(Json() if as_json else Plain())


def emit(line: str) -> None:
    """Write a line to standard output, unbuffered."""
    sys.stdout.write(printable(line) + "\n")
    sys.stdout.flush()


def complain(message: str) -> None:
    """Write a message to standard error, in one line."""
    sys.stderr.write(f"twofold: {printable(' '.join(message.split()))}\n")
    sys.stderr.flush()


def printable(text: str) -> str:
    """The text without control characters, with which the name of a file could steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines: names left, figures right, no wider than the terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, name in enumerate(header):
        table.add_column(printable(name), justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    text = io.StringIO()
    Console(width=text_width(), file=text, color_system=None).print(table)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def paragraph(text: str, first: str = "", rest: str = "") -> str:
    """Wrap text to the terminal's width, but no command in backticks. Lines start with `first`, then with `rest`."""
    text = re.sub("`[^`]*`", lambda command: command[0].replace(" ", "\0"), text)
    wrapper = textwrap.TextWrapper(text_width(), first, rest, break_long_words=False, break_on_hyphens=False)
    return wrapper.fill(text).replace("\0", " ") or first.rstrip()


def text_width() -> int:
    return min(100, shutil.get_terminal_size((80, 24)).columns)


def in_words(value: Any) -> str:
    """A value as words: `size 128, width 64` for a mapping."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {in_words(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return " ".join(in_words(each) for each in value)
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def tracked(items: Iterator[T], total: int | None, what: str, done: int = 0) -> Iterator[T]:
    """The same items, with a progress bar on a terminal, and lines on standard error elsewhere."""
    console = Console(stderr=True)
    if console.is_terminal:
        return with_bar(items, total, what, console, done)
    return with_lines(items, total, what, complain, done=done)


def with_bar(
    items: Iterator[T], total: int | None, what: str, console: Console, done: int = 0
) -> Iterator[T]:
    """The same items, with a progress bar from `SOON` seconds on."""
    began = time.monotonic()
    bar = Progress(*Progress.get_default_columns(), console=console, transient=True)
    task = bar.add_task(escape(printable(what)), total=total, completed=done)
    try:
        for item in items:
            yield item
            bar.advance(task)
            if not bar.live.is_started and time.monotonic() - began >= SOON:
                bar.start()
    finally:
        if bar.live.is_started:
            bar.stop()


def with_lines(
    items: Iterator[T],
    total: int | None,
    what: str,
    notify: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    done: int = 0,
) -> Iterator[T]:
    """The same items, with a line every `EVERY` seconds: `reading A: 1,200 of 5,000, 0:32 left`."""
    began = last = clock()
    for count, item in enumerate(items, 1):
        yield item
        now, images = clock(), done + count
        if now - last >= EVERY and images != total:
            last = now
            left = f" of {total:,}, {time_left(images, total, count / (now - began))} left" if total else ""
            notify(f"{what}: {images:,}{left}")


def speed(rate: float) -> str:
    return f"{rate:.1f} images/s" if rate >= 1 or rate == 0 else f"{1 / rate:.1f} s/image"


def time_left(images: int, total: int, rate: float) -> str:
    """Time left as 4:05 or 3:12:00."""
    if rate <= 0:
        return "-:--"
    minutes, seconds = divmod(round((total - images) / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def mean_losses(losses: dict[str, float]) -> str:
    """The mean of each kind of loss over both directions: `gan 0.42 cycle 1.31 idt 0.60 disc 0.21`."""
    kinds: dict[str, list[float]] = {}
    for name, value in losses.items():
        kinds.setdefault(name.split("_")[0], []).append(value)
    means = {kind: sum(values) / len(values) for kind, values in kinds.items()}
    return " ".join(f"{kind} {mean:{'.2f' if abs(mean) < 1e4 else '.1e'}}" for kind, mean in means.items())
