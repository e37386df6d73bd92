"""`twofold info`: the facts of a run or a model."""

from collections import Counter
from json import dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold import config as configs
from twofold.cli.options import Direction, Flag
from twofold.cli.terminal import emit, in_words, paragraph
from twofold.errors import TwofoldError, UsageError
from twofold.runs import Run, read_lines

if TYPE_CHECKING:
    from twofold.translation.header import Header


SAID_IN_WORDS = ("source", "target", "geometry", "size", "dtype", "range")
"""Fields of a header that only --json prints; `takes` and `gives` have them in words."""


def info(
    model: Path,
    /,
    *,
    direction: Direction | None = None,
    key: str | None = None,
    epoch: str | None = None,
    json: Flag = False,
) -> None:
    """Print the facts of a run or a model: network, direction, images in and out, scale, origin.

    For a checkpoint of another project it prints the facts of the model that `twofold import` would write.

    Args:
        model: A run folder, a .safetensors model, an .onnx file of `twofold export`, or a checkpoint or a folder that
            `twofold import` takes.
        direction: Which of a run's two models; ab if not given.
        key: Which state dict of a checkpoint that holds several.
        epoch: Which checkpoint of a folder; the latest if not given.
        json: Print JSON.
    """
    if model.suffix == ".onnx" and not model.is_dir():
        facts = onnx_facts(model)
    elif needs_import(model):
        facts = checkpoint_facts(model, direction, key, epoch)
        key = epoch = None
    else:
        facts = model_or_run_facts(Run(model), direction or "ab")
    if unused := [name for name, value in (("key", key), ("epoch", epoch)) if value is not None]:
        raise UsageError(f"--{unused[0]} is for checkpoints of other projects; {model} is not one")
    if direction is not None and facts.get("direction", direction) != direction:
        raise UsageError(f"{model} translates {facts['direction']}, not {direction}; leave out --direction")
    if json:
        emit(dumps(facts, default=str))
        return
    for key, value in facts.items():
        if key not in SAID_IN_WORDS:
            words = "{1}×{0} px".format(*value) if key == "fixed" else in_words(value)
            emit(paragraph(words, f"{key + ':':<12}", " " * 12))


def model_or_run_facts(run: Run, direction: str) -> dict[str, Any]:
    """The facts of a run and of its newest model, where they exist. A file is read as a model."""
    if not run.path.is_dir():
        return model_facts(run.path)
    has_model = run.snapshots(direction) or not run.exists
    facts = model_facts(run.newest_snapshot(direction)) if has_model else {}
    return facts | (run_facts(run) if run.exists else {})


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


def needs_import(path: Path) -> bool:
    """Whether the path is a checkpoint of another project, or a folder of them. Only folders of others load torch."""
    if path.is_dir():
        if Run(path).recognised:
            return False
        from twofold.exchange.load import is_foreign

        return is_foreign(path)
    from twofold.translation.header import is_model

    return path.is_file() and not is_model(path)


def checkpoint_facts(path: Path, direction: str | None, key: str | None, epoch: str | None) -> dict[str, Any]:
    """The header that an import would write, and its notes."""
    from twofold.exchange.checkpoint import Choices, generators_in
    from twofold.exchange.load import open_generator

    try:
        imported = open_generator(path, direction, choices=Choices(key, epoch))
    except UsageError:
        names = generators_in(path) if path.is_file() and key is None else {}
        if len(names) < 2:
            raise
        generators = [{"key": name, "direction": way} for name, way in names.items()]
        notes = "choose one with --key, or with --direction"
        return {"checkpoint": str(path), "generators": generators, "notes": notes}
    facts = header_facts(imported.header)
    notes = {"notes": imported.notes} if imported.notes else {}
    return {"checkpoint": str(path), **facts, **notes}


def model_facts(file: Path) -> dict[str, Any]:
    """The header of a model and its size."""
    from twofold.translation.header import read_header

    return {"model": str(file), **header_facts(read_header(file)), "megabytes": megabytes(file)}


def megabytes(file: Path) -> float:
    """The size of a file, to three digits."""
    return float(f"{file.stat().st_size / 1e6:.3g}")


def onnx_facts(file: Path) -> dict[str, Any]:
    """The header and the graph of a file that `twofold export` wrote."""
    from twofold.translation.onnx_file import read

    header, form, graph = read(file)
    kinds = dict(Counter(node.op_type for node in graph.graph.node).most_common())
    facts = {"model": str(file), **header_facts(header), "io": form.io, "fp16": form.fp16}
    if form.fixed:
        facts["fixed"] = form.fixed
    facts |= {"opset": graph.opset_import[0].version, "operators": len(graph.graph.node)}
    return facts | {"kinds": kinds, "megabytes": megabytes(file)}


def header_facts(header: "Header") -> dict[str, Any]:
    """The fields of a header, and in words what the model takes and gives."""
    from twofold.translation.header import contract_in_words, scale_in_words

    fields = header.fields()
    fields["network"] = {"network": header.network.get("network"), **header.network}  # the name first
    takes, gives = (contract_in_words(each) for each in (header.source_contract, header.target_contract))
    return fields | {"takes": f"{takes}; {scale_in_words(header)}", "gives": gives}
