"""Time the responses of `twofold monitor`: for one run with a long log, and for a list of many runs.

    python benchmarks/monitor.py --lines 100000 --runs 1000 --record monitor

Every page is requested over HTTP from a server in this process, so the time is what a browser waits for. On a busy
machine look at the CPU milliseconds of this process.
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
from record import measurement

from twofold import read_untrusted as untrusted
from twofold.pages import run_folder
from twofold.runs import Run
from twofold.serving import monitor, watch
from twofold.serving.listening import Access, Server, listen

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
    parser.add_argument("--record", metavar="NAME", help="keep the figures in benchmarks/records/DATE-NAME")
    options = parser.parse_args()
    with measurement(options.record) as figures, tempfile.TemporaryDirectory() as home:
        figures |= {"lines": options.lines, **long_run(Path(home) / "run", options.lines, options.repeats)}
        figures |= {"runs": options.runs, **many_runs(Path(home) / "runs", options.runs, options.repeats)}
        for name, figure in figures.items():
            wall, *cpu = figure if isinstance(figure, tuple) else (figure,)
            print(f"{name:<24}{wall:>12,}" + "".join(f"   CPU {each}" for each in cpu))


def long_run(path: Path, lines: int, repeats: int) -> dict[str, Any]:
    """The page of one run: the first time, after each new line, and unchanged."""
    run = make(path, lines)
    with Client(path) as client:
        client.get("/none")  # the server is up

        def add() -> None:
            append(run, lines + 1)

        figures = {
            "metrics_bytes": run.metrics.stat().st_size,
            "first_page_ms": timed(client, "/", 5, clear_caches),
            "page_after_a_line_ms": timed(client, "/", repeats, add),
            "nothing_new_ms": timed(client, "/", repeats, lambda: None, again=True),
        }
        return figures | {"page_bytes": len(client.get("/"))}


def many_runs(path: Path, runs: int, repeats: int) -> dict[str, Any]:
    """The list, searched again for each page: the first time, later, and unchanged."""
    for n in range(runs):
        make(path / f"run-{n:04d}", 3)
    watch.RESCAN_AFTER, watch.SCAN_SHARE = 0.0, float("inf")
    with Client(path) as client:
        client.get("/none")
        return {
            "first_list_ms": timed(client, "/", 5, clear_caches),
            "list_ms": timed(client, "/", repeats, lambda: None),
            "list_nothing_new_ms": timed(client, "/", repeats, lambda: None, again=True),
        }


def clear_caches() -> None:
    """Forget what the server keeps of unchanged files."""
    for cached in (untrusted._parsed, run_folder._log, watch._last_report):
        cached.cache_clear()


def timed(
    client: "Client", path: str, repeats: int, before: Callable[[], None], again: bool = False
) -> tuple[float, float]:
    """Median wall and CPU milliseconds of a page; `again` sends the tag of the last one, as a browser does."""
    wall, cpu = [], []
    for _ in range(repeats):
        before()
        start, start_cpu = time.perf_counter(), time.process_time()
        client.get(path, client.tag if again else "")
        wall.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (time.process_time() - start_cpu))
    return round(statistics.median(wall), 1), round(statistics.median(cpu), 1)


class Client:
    """A monitor in a thread, and one connection to it."""

    def __init__(self, path: Path) -> None:
        self.socket, self.tag = listen("127.0.0.1", 0), ""
        self.server = Server(monitor.application(watch.Watch([path]), Access(frozenset({"127.0.0.1"}))))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})

    def __enter__(self) -> "Client":
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
        response = self.connection.getresponse()
        self.tag = response.headers.get("ETag", "")
        assert (response.status == 304) == bool(tag), response.status
        return response.read()


def make(path: Path, lines: int) -> Run:
    run = Run(path)
    (path / "samples").mkdir(parents=True)
    run.config.write_text(CONFIG)
    run.metrics.write_text("".join(row(n) for n in range(1, lines + 1)))
    run.timing.write_text("".join(timing_row(n) for n in range(1, lines + 1)))
    for n in range(1, min(24, lines) + 1):
        for direction in ("ab", "ba"):
            Image.new("RGB", (24, 16), (n, 90, 160)).save(run.sample(1000 * n, direction), "WEBP")
    return run


def append(run: Run, n: int) -> None:
    with run.metrics.open("a") as metrics, run.timing.open("a") as timing:
        metrics.write(row(n))
        timing.write(timing_row(n))


def row(n: int) -> str:
    losses = {name: round(0.2 + (n * 37 % 101) / 1000, 6) for name in NAMES}
    return json.dumps({"images": 10 * n, "epoch": n / 100, "lr": 2e-4, "losses": losses}) + "\n"


def timing_row(n: int) -> str:
    return json.dumps({"images": 10 * n, "seconds": 2.5 * n, "images_per_s": 4.0, "waiting": 0.0001}) + "\n"


if __name__ == "__main__":
    main()
