"""Time the live page's answers: one run with a long log, and a list of many runs.

    python benchmarks/monitor.py --lines 100000 --runs 1000 --json monitor.json

Every answer is asked for over HTTP from a server in this process, so the time is what a browser waits for. On a
busy machine look at the milliseconds that this process was busy: the rest is others' work.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from PIL import Image

from twofold import read_untrusted as lenient
from twofold.pages import folder
from twofold.runs import Run
from twofold.serving import monitor, watch

CONFIG = """format: 1
method: cyclegan
a: horses
b: zebras
training: {epochs: 500, decay_epochs: 500, report_every: 10}
"""
NAMES = ("gan_ab", "gan_ba", "cycle_a", "cycle_b", "idt_a", "idt_b", "disc_a", "disc_b")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=100_000, help="of metrics.jsonl")
    parser.add_argument("--runs", type=int, default=1000, help="in the list")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        figures = {"lines": args.lines, **long_run(Path(home) / "run", args.lines, args.repeats)}
        figures |= {"runs": args.runs, **many_runs(Path(home) / "runs", args.runs, args.repeats)}
    for name, figure in figures.items():
        clock, *own = figure if isinstance(figure, tuple) else (figure,)
        print(f"{name:<24}{clock:>12,}" + "".join(f"   of which {each} busy here" for each in own))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


def long_run(path: Path, lines: int, repeats: int) -> dict[str, Any]:
    """One run's page: its first answer, after each new line, and when nothing has changed."""
    run = make(path, lines)
    with Asked(path) as asked:
        asked.get("/none")  # the server is up

        def add() -> None:
            append(run, lines + 1)

        figures = {
            "metrics_bytes": run.metrics.stat().st_size,
            "first_page_ms": timed(asked, "/", 5, forget),
            "page_after_a_line_ms": timed(asked, "/", repeats, add),
            "nothing_new_ms": timed(asked, "/", repeats, lambda: None, again=True),
        }
        return figures | {"page_bytes": len(asked.get("/"))}


def many_runs(path: Path, runs: int, repeats: int) -> dict[str, Any]:
    """The list, searched anew for each answer: cold, warm, and when nothing has changed."""
    for n in range(runs):
        make(path / f"run-{n:04d}", 3)
    watch.RESCAN, watch.BUSY = 0.0, float("inf")
    with Asked(path) as asked:
        asked.get("/none")
        return {
            "first_list_ms": timed(asked, "/", 5, forget),
            "list_ms": timed(asked, "/", repeats, lambda: None),
            "list_nothing_new_ms": timed(asked, "/", repeats, lambda: None, again=True),
        }


def forget() -> None:
    """What the server keeps of files that have not changed."""
    for kept in (lenient._parsed, folder._log, watch._last_row):
        kept.cache_clear()


def timed(
    asked: "Asked", path: str, repeats: int, before: Callable[[], None], again: bool = False
) -> tuple[float, float]:
    """Median milliseconds of an answer, by the clock and of this process alone; `again` asks whether it has changed."""
    clock, own = [], []
    for _ in range(repeats):
        before()
        begun, spent = time.perf_counter(), time.process_time()
        asked.get(path, asked.tag if again else "")
        clock.append(1000 * (time.perf_counter() - begun))
        own.append(1000 * (time.process_time() - spent))
    return round(statistics.median(clock), 1), round(statistics.median(own), 1)


class Asked:
    """A monitor in a thread, asked over one connection."""

    def __init__(self, path: Path) -> None:
        self.socket, self.tag = monitor.listen("127.0.0.1", 0), ""
        self.server = monitor.server(monitor.application(watch.Watch([path]), None))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})

    def __enter__(self) -> "Asked":
        self.thread.start()
        self.connection = HTTPConnection(*self.socket.getsockname(), timeout=60)
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self.server.should_exit = True
        self.thread.join()
        self.socket.close()

    def get(self, path: str, tag: str = "") -> bytes:
        self.connection.request("GET", path, headers={"If-None-Match": tag} if tag else {})
        answer = self.connection.getresponse()
        self.tag = answer.headers.get("ETag", "")
        assert (answer.status == 304) == bool(tag), answer.status
        return answer.read()


def make(path: Path, lines: int) -> Run:
    run = Run(path)
    (path / "samples").mkdir(parents=True)
    run.config.write_text(CONFIG)
    run.metrics.write_text("".join(row(n) for n in range(1, lines + 1)))
    run.timing.write_text("".join(clock(n) for n in range(1, lines + 1)))
    for n in range(1, min(24, lines) + 1):
        for direction in ("ab", "ba"):
            Image.new("RGB", (24, 16), (n, 90, 160)).save(run.sample(1000 * n, direction), "WEBP")
    return run


def append(run: Run, n: int) -> None:
    with run.metrics.open("a") as metrics, run.timing.open("a") as timing:
        metrics.write(row(n))
        timing.write(clock(n))


def row(n: int) -> str:
    losses = {name: round(0.2 + (n * 37 % 101) / 1000, 6) for name in NAMES}
    return json.dumps({"images": 10 * n, "epoch": n / 100, "lr": 2e-4, "losses": losses}) + "\n"


def clock(n: int) -> str:
    return json.dumps({"images": 10 * n, "seconds": 2.5 * n, "images_per_s": 4.0, "waiting": 0.0001}) + "\n"


if __name__ == "__main__":
    main()
