"""`twofold info`: the facts of a run or a model."""

from json import dumps, loads
from pathlib import Path
from typing import Any

from twofold import config as configs
from twofold.cli.options import Direction, Flag
from twofold.cli.terminal import emit, in_words, paragraph
from twofold.errors import TwofoldError
from twofold.runs import Run, read_lines


def info(model: Path, /, *, direction: Direction | None = None, json: Flag = False) -> None:
    """Print the facts of a run or a model: network, direction, images in and out, scale, origin.

    Args:
        model: A run folder, or a .safetensors model.
        direction: Which of a run's two models; ab if not given.
        json: Print JSON.
    """
    run = Run(model)
    facts = run_facts(run) if run.exists else {}
    if not run.exists or run.snapshots(direction or "ab"):
        file = run.newest_snapshot(direction or "ab") if model.is_dir() else model
        facts = model_facts(file, in_short=not json) | facts
    if json:
        emit(dumps(facts, default=str))
        return
    for key, value in facts.items():
        emit(paragraph(in_words(value), f"{key + ':':<12}", " " * 12))


def run_facts(run: Run) -> dict[str, Any]:
    stored = configs.from_file(run.config)
    facts = {key: stored.get(key) for key in ("method", "preset", "a", "b")}
    states = [images for images, _ in run.states()]
    return facts | images_facts(run) | {"states": states, "metrics": (read_lines(run.metrics) or [{}])[-1]}


def images_facts(run: Run) -> dict[str, str]:
    """What the images of both domains are, in words; nothing for a run that 0.1 started."""
    from twofold.formats.contract import Contract
    from twofold.translation.header import contract_in_words

    if not run.data.is_file():
        return {}
    try:
        domains = loads(run.data.read_text(encoding="utf-8"))
        return {
            f"images_{name}": contract_in_words(Contract.from_dict(domains[name]["contract"]))
            for name in "ab"
            if domains["format"] > 1
        }
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise TwofoldError(f"{run.data} is damaged; restore it, or start a new run") from error


def model_facts(file: Path, in_short: bool) -> dict[str, Any]:
    """The header of a model and its size; `in_short` with the contracts and the geometry in words."""
    from twofold.translation.header import contract_in_words, read_header, scale_in_words

    megabytes = round(file.stat().st_size / 1e6, 1) if file.is_file() else 0
    header = read_header(file)
    fields = header.fields()
    fields["network"] = {"network": header.network.get("network"), **header.network}  # the name first
    if in_short:
        takes, gives = (contract_in_words(each) for each in (header.source_contract, header.target_contract))
        long = ("source", "target", "geometry", "size", "dtype", "range")
        fields = {name: value for name, value in fields.items() if name not in long}
        fields |= {"takes": f"{takes}; {scale_in_words(header)}", "gives": gives}
    return {"model": str(file), **fields, "megabytes": megabytes}
