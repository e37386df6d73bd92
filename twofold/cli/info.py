"""`twofold info`: the facts of a run or a model."""

from json import dumps
from pathlib import Path
from typing import Any

from twofold import config as configs
from twofold.cli.options import Direction, Flag
from twofold.cli.terminal import emit, in_words, paragraph
from twofold.runs import Run, read_lines


def info(model: Path, /, *, direction: Direction | None = None, json: Flag = False) -> None:
    """Print the facts of a run or a model: network, direction, size, origin.

    Args:
        model: A run folder, or a .safetensors model.
        direction: Which of a run's two models; ab if not given.
        json: Print JSON.
    """
    run = Run(model)
    facts = run_facts(run) if run.exists else {}
    if not run.exists or run.snapshots(direction or "ab"):
        file = run.newest_snapshot(direction or "ab") if model.is_dir() else model
        facts = model_facts(file) | facts
    if json:
        emit(dumps(facts, default=str))
        return
    for key, value in facts.items():
        emit(paragraph(in_words(value), f"{key + ':':<12}", " " * 12))


def run_facts(run: Run) -> dict[str, Any]:
    stored = configs.from_file(run.config)
    facts = {key: stored.get(key) for key in ("method", "preset", "a", "b")}
    states = [images for images, _ in run.states()]
    return facts | {"states": states, "metrics": (read_lines(run.metrics) or [{}])[-1]}


def model_facts(file: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from twofold.translation.header import read_header

    megabytes = round(file.stat().st_size / 1e6, 1) if file.is_file() else 0
    header = asdict(read_header(file))
    header["network"] = {"network": header["network"].get("network"), **header["network"]}  # the name first
    return {"model": str(file), **header, "megabytes": megabytes}
