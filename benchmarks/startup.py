"""Time what one waits for before anything happens: --help, info, and the first step of a run with cached data.

    python benchmarks/startup.py --json startup.json
    python benchmarks/startup.py --run runs/h2z          # the share of that run's time spent waiting for images

Each command runs in a process of its own, several times. Both the wall's seconds and the CPU's are kept, for the wall's
grow with the machine's load. A run's first step is timed to its end: from the command to the first line of
metrics.jsonl, with the smallest useful networks.
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
    parser.add_argument("--run", type=Path, help="a run folder to read the share of waiting from")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    result: dict[str, Any] = {"load": os.getloadavg()[0]}
    if given.run:
        result["waiting"] = waiting(given.run / "timing.jsonl")
    else:
        with tempfile.TemporaryDirectory() as folder:
            result |= commands(Path(folder), given.rounds)
    print(json.dumps(result, indent=1))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1))


def waiting(path: Path) -> float:
    """The share of a run's time in which the training waited for images, after the first report."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][1:]
    return sum(x["waiting"] * x["seconds"] for x in lines) / sum(x["seconds"] for x in lines)


def commands(folder: Path, rounds: int) -> dict[str, float]:
    subprocess.run([*TWOFOLD, "data", "make", "seasons", folder / "set", "--count", "50"], check=True)
    train = [*TWOFOLD, "train", folder / "set" / "trainA", folder / "set" / "trainB", *SMALL]
    first_step(train, folder / "warm")  # fills the cache of decoded images
    finished = [*train, "--out", folder / "done", "--epochs", "0.02", "--decay-epochs", "0"]
    subprocess.run(finished, check=True, stdout=subprocess.DEVNULL)
    timed: dict[str, Callable[[int], tuple[float, float]]] = {
        "help": lambda _: whole([*TWOFOLD, "--help"]),
        "info": lambda _: whole([*TWOFOLD, "info", folder / "done"]),
        "first_step": lambda round_: first_step(train, folder / f"run{round_}"),
    }
    found: dict[str, float] = {}
    for name, run in timed.items():
        took = [run(round_) for round_ in range(rounds)]
        found |= {f"{name}_wall_s": min(x for x, _ in took), f"{name}_cpu_s": min(x for _, x in took)}
    return found


def whole(command: list[Any]) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime


def first_step(train: list[Any], out: Path) -> tuple[float, float]:
    """Wall and CPU seconds from the command to the end of the first step."""
    begun = time.perf_counter()
    process = subprocess.Popen([*train, "--out", out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").stat().st_size:
            assert process.poll() is None, "the training ended before its first step"
            time.sleep(0.01)
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return time.perf_counter() - begun, sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
