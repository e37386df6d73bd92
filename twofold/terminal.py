"""How a training looks from outside: a progress bar on a terminal, plain lines or JSON elsewhere."""

import json
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text


class Plain:
    """A line for each message, and one for progress every half a minute."""

    def __init__(self, every: float = 30.0) -> None:
        self.every, self.last = every, 0.0

    def __enter__(self) -> "Plain":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, line: str) -> None:
        emit(line)

    def progress(self, images: int, total: int, rate: float, losses: dict[str, float]) -> None:
        now = time.monotonic()
        if now - self.last >= self.every or images >= total:
            self.last = now
            emit(f"{images}/{total} images  {speed(rate)}  {left(images, total, rate)} left  {short(losses)}")


class Json:
    """One JSON object a line, for machines."""

    def __init__(self) -> None:
        self.reported: dict[str, float] = {}

    def __enter__(self) -> "Json":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, line: str) -> None:
        emit(json.dumps({"say": line}, ensure_ascii=False))

    def progress(self, images: int, total: int, rate: float, losses: dict[str, float]) -> None:
        if losses != self.reported:
            self.reported = losses
            row: dict[str, Any] = {
                "images": images,
                "total": total,
                "images_per_s": round(rate, 3),
                "losses": losses,
            }
            emit(json.dumps(row))


class Bar:
    """A rich progress bar in one line, with messages above it."""

    def __init__(self, console: Console) -> None:
        columns = (MofNCompleteColumn(), BarColumn(None), TextColumn("{task.description}"))
        self.bar = Progress(*columns, console=console, expand=True, transient=True)
        self.task: TaskID | None = None

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def say(self, line: str) -> None:
        self.bar.console.print(Text(line))

    def progress(self, images: int, total: int, rate: float, losses: dict[str, float]) -> None:
        text = f"{speed(rate)} {left(images, total, rate)} left {short(losses)}"
        if self.task is None:
            self.bar.start()
            self.task = self.bar.add_task(text, total=total, completed=images)
        self.bar.update(self.task, completed=images, description=text)


Watcher = Plain | Json | Bar


def watcher(as_json: bool) -> Watcher:
    """What fits where the output goes."""
    console = Console(stderr=True)
    return Json() if as_json else Bar(console) if console.is_terminal else Plain()


def emit(line: str) -> None:
    """A line to standard output, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def speed(rate: float) -> str:
    return f"{rate:.1f} images/s" if rate >= 1 or rate == 0 else f"{1 / rate:.1f} s/image"


def left(images: int, total: int, rate: float) -> str:
    """Time left as 4:05 or 3:12:00."""
    if rate <= 0:
        return "-:--"
    minutes, seconds = divmod(round((total - images) / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def short(losses: dict[str, float]) -> str:
    """Both directions of each kind of loss as one mean: `gan 0.42 cycle 1.31 idt 0.60 disc 0.21`."""
    kinds: dict[str, list[float]] = {}
    for name, value in losses.items():
        kinds.setdefault(name.split("_")[0], []).append(value)
    return " ".join(f"{kind} {sum(values) / len(values):.2f}" for kind, values in kinds.items())
