"""Time the start of the command: --help, info, and the first step of a run with cached images.

    python benchmarks/startup.py --record startup
    python benchmarks/startup.py --run runs/h2z          # the share of that run's time spent waiting for images

Each command runs several times in a process of its own. Wall and CPU seconds are both kept, because wall seconds grow
with the machine's load. The first step is timed from the command to the first line of metrics.jsonl, with small networks.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from record import measurement

TWOFOLD = [sys.executable, "-m", "twofold"]
SMALL = [
    "--size",
    "64",
    "--generator.width",
    "8",
    "--discriminator.width",
    "8",
    "--training.report-every",
    "1",
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="a run folder: print its share of waiting instead")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", metavar="NAME", help="keep the figures in benchmarks/records/DATE-NAME")
    options = parser.parse_args()
    with measurement(options.record) as figures, tempfile.TemporaryDirectory() as folder:
        if options.run:
            figures["waiting"] = waiting(options.run / "timing.jsonl")
        else:
            figures |= time_commands(Path(folder), options.rounds)
        for name, value in figures.items():
            print(f"{name:<20} {value:.4g}")


def waiting(path: Path) -> float:
    """The share of a run's time in which the trainer waited for images, after the first report."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][1:]
    return sum(x["waiting"] * x["seconds"] for x in lines) / sum(x["seconds"] for x in lines)


def time_commands(folder: Path, rounds: int) -> dict[str, float]:
    subprocess.run([*TWOFOLD, "data", "make", "seasons", folder / "set", "--count", "50"], check=True)
    train = [*TWOFOLD, "train", folder / "set" / "trainA", folder / "set" / "trainB", *SMALL]
    time_first_step(train, folder / "warm")  # fills the cache of decoded images
    finished = [*train, "--out", folder / "done", "--epochs", "0.02", "--decay-epochs", "0"]
    subprocess.run(finished, check=True, stdout=subprocess.DEVNULL)
    timed: dict[str, Callable[[int], tuple[float, float]]] = {
        "help": lambda _: time_command([*TWOFOLD, "--help"]),
        "info": lambda _: time_command([*TWOFOLD, "info", folder / "done"]),
        "first_step": lambda round_: time_first_step(train, folder / f"run{round_}"),
    }
    figures: dict[str, float] = {}
    for name, run in timed.items():
        times = [run(round_) for round_ in range(rounds)]
        figures |= {
            f"{name}_wall_s": min(wall for wall, _ in times),
            f"{name}_cpu_s": min(cpu for _, cpu in times),
        }
    return figures


def time_command(command: list[Any]) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return time.perf_counter() - start, used.ru_utime + used.ru_stime


def time_first_step(train: list[Any], out: Path) -> tuple[float, float]:
    """Wall and CPU seconds from the command to the end of the first step."""
    start = time.perf_counter()
    process = subprocess.Popen([*train, "--out", out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").stat().st_size:
            assert process.poll() is None, "the run ended before its first step"
            time.sleep(0.01)
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return time.perf_counter() - start, sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
