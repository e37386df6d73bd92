"""Print the machine, the commit and the command of a measurement, and keep it as a record.

    with measurement("step-128") as figures:
        figures["seconds"] = 1.5
        print("1.5 s a step")

writes benchmarks/records/DATE-step-128/record.json (machine, commit, command and figures) and log.txt (what was printed).
Without a name it only prints. Needs the standard library alone.
"""

import datetime
import importlib.metadata
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).parents[1]
RECORDS = Path(__file__).with_name("records")


@contextmanager
def measurement(name: str | None = None, **more: Any) -> Iterator[dict[str, Any]]:
    """Print the facts about this program, and give a dict for the figures; with a name, write both at the end.

    Args:
        name: the record's folder is RECORDS/DATE-name; an older one of the same day and name is replaced.
        more: further facts, such as the GPU or the commits that are compared.
    """
    facts = {"machine": machine(), "commit": commit(ROOT), "command": command(), **more}
    figures: dict[str, Any] = {}
    log = Tee(sys.stdout)
    with redirect_stdout(log):
        for key, value in facts.items():
            print(
                f"{key + ':':<10} {', '.join(map(str, value.values())) if isinstance(value, dict) else value}"
            )
        yield figures
    if name:
        folder = RECORDS / f"{datetime.datetime.now(datetime.UTC).date()}-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "record.json").write_text(json.dumps(facts | {"figures": figures}, indent=1) + "\n")
        (folder / "log.txt").write_text(log.text.getvalue())
        print(f"record:    {folder.relative_to(ROOT)}")


class Tee(io.TextIOBase):
    """Writes to a stream and keeps a copy."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.text = stream, io.StringIO()

    def write(self, text: str) -> int:
        self.text.write(text)
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()


def machine() -> dict[str, str]:
    """The processor, its cores, what else it is doing, and the versions that a figure depends on."""
    return {
        "cpu": cpu_name(),
        "cores": f"{os.cpu_count()} cores",
        "load": f"load {os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"Python {platform.python_version()}",
        "torch": f"torch {importlib.metadata.version('torch')}",
    }


def cpu_name() -> str:
    """Name and widest instructions of the processor: virtual machines often hide the model."""
    try:
        info = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in reversed(info) if ":" in line)  # of the first core
    found = {key.strip(): value.strip() for key, value in fields.items()}
    known = [
        name
        for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
        if name in found.get("flags", "").split()
    ]
    return " ".join([found.get("model name", platform.machine()), *known[-1:]])


def commit(checkout: Path) -> str:
    """`git describe` of a checkout; ends in -dirty if files were changed."""
    describe = ["git", "-C", str(checkout), "describe", "--always", "--tags", "--dirty"]
    try:
        done = subprocess.run(describe, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def command() -> str:
    """The command line of this program, without the folders of this machine."""
    program = Path(sys.argv[0]).resolve()
    shown = program.relative_to(ROOT) if program.is_relative_to(ROOT) else program.name
    return " ".join(["python", str(shown), *(shorten(argument) for argument in sys.argv[1:])])


def shorten(argument: str) -> str:
    """An absolute path's last part; anything else as it is."""
    return Path(argument).name if Path(argument).is_absolute() else argument
