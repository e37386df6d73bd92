"""`twofold.export`: a model as a file that other programs run, written only after it gave PyTorch's pixels."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from twofold.errors import UsageError
from twofold.exchange.export import save_original
from twofold.exchange.load import open_generator
from twofold.exporting.onnx import export_bytes
from twofold.exporting.pictures import pictures
from twofold.exporting.program import open_program, program_bytes
from twofold.exporting.proof import Proof, Row, check, default_tolerance
from twofold.files import explained_full_disk, replacing, write_atomically
from twofold.formats.contract import Pixels
from twofold.networks.layers import Generator
from twofold.runs import Track, untracked
from twofold.translation.backends import open_session
from twofold.translation.header import Header
from twofold.translation.onnx_file import IoName
from twofold.translation.onnx_translator import OnnxTranslator
from twofold.translation.translator import Translator

Kind = Literal["onnx", "pt2", "pth"]
"""ONNX, a program of torch.export, or the state dict of the original implementation."""


@dataclass(frozen=True)
class Report:
    """What an export wrote.

    Attributes:
        kind: "onnx", "pt2" or "pth".
        tolerance: the largest difference that was allowed, in levels of the target.
        rows: the comparisons with PyTorch; empty for "pth", which holds weights alone.
        notes: of an import.
    """

    file: Path
    kind: Kind
    bytes: int
    header: Header
    tolerance: float = 0.0
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What FILE.report.json holds."""
        facts = {
            "file": self.file.name,
            "kind": self.kind,
            "bytes": self.bytes,
            "model": self.header.fields(),
        }
        return facts | {"tolerance": self.tolerance, "rows": [row.to_dict() for row in self.rows]}


def export(
    model: str | Path | Translator,
    path: str | Path,
    *,
    to: Kind | None = None,
    direction: str | None = None,
    best: bool = False,
    fixed: int | tuple[int, int] | None = None,
    io: IoName = "float",
    fp16: bool = False,
    tolerance: float | None = None,
    track: Track = untracked,
) -> Report:
    """Export a model, and prove that the file gives PyTorch's pixels; FILE.report.json holds the comparison.

    >>> twofold.export("runs/h2z", "zebra.onnx").rows[0].max  # levels of 255
    0.004

    Args:
        model: a run folder, a .safetensors model, a checkpoint of another project, or a translator.
        path: the file to write.
        to: "onnx", "pt2" or "pth". None: as the suffix of `path` says.
        direction: "ab" or "ba". For a run: "ab" if not given.
        best: of a run: the snapshot that was best on held-out images instead of the newest.
        fixed: "onnx": the side of the one square, or (height, width), that the graph takes. None: any size.
        io: "onnx": "float" for (N, C, H, W) in [-1, 1]; "uint8" for (N, H, W, C) of stored values.
        fp16: "onnx": half precision inside, except for norms.
        tolerance: the largest difference allowed, in levels of the target. None: see `proof.default_tolerance`.

    Raises:
        UsageError: an argument is wrong, the model is missing, or a package is.
        TwofoldError: the network cannot be exported, or the file differs by more than `tolerance`; nothing was written.
        OSError: the disk refused.
    """
    path = Path(path)
    kind = kind_of(path, to)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name the file to write, such as {path / 'model.onnx'}")
    if not isinstance(model, Translator):
        check_another(path, Path(model))
    if io not in get_args(IoName):
        raise UsageError(f"io must be float or uint8, not {io!r}")
    size = sides_of(fixed)
    if kind != "onnx" and (size or fp16 or io != "float"):
        raise UsageError(f"--fixed, --io and --fp16 are for .onnx files, not for {path.name}; leave them out")
    if tolerance is not None and not tolerance >= 0:
        raise UsageError(f"--tolerance must be 0 or more levels, not {tolerance:g}")
    if kind == "pth" and tolerance is not None:
        raise UsageError(f"--tolerance is for .onnx and .pt2 files, not for {path.name}; leave it out")
    generator, header, notes = opened(model, direction, best)
    if kind == "pth":
        save_original(generator, path)
        return Report(path, kind, path.stat().st_size, header, notes=tuple(notes))
    to_bytes = partial(export_bytes, io=io, fp16=fp16, fixed=size) if kind == "onnx" else program_bytes
    content = to_bytes(generator, header)
    translator = Translator.of(generator, header, device="cpu", noise=False)
    proof = Proof(translator, runner(content, kind), stored=io == "uint8")
    run = Path(model) if not isinstance(model, Translator) and Path(model, "data.json").is_file() else None
    rows = tuple(track(proof.rows(pictures(header, run), size), None, "comparing with PyTorch"))
    allowed = default_tolerance(proof.target, fp16) if tolerance is None else tolerance
    check(rows, allowed, fp16)
    report = Report(path, kind, len(content), header, allowed, rows, tuple(notes))
    write(report, content)
    return report


def kind_of(path: Path, to: str | None) -> Kind:
    """What to write.

    Raises:
        UsageError: neither `to` nor the suffix says it, or it is a web page.
    """
    name = to or path.suffix.removeprefix(".")
    for kind in get_args(Kind):
        if kind == name:
            return kind
    if name == "html":
        raise UsageError(f"only the command line writes web pages: twofold export MODEL -o {path}")
    if to:
        raise UsageError(f"to must be onnx, pt2 or pth, not {to!r}")
    raise UsageError(
        f"{path} has no suffix that tells what to write; use .onnx, .html, .pt2 or .pth, or --to onnx"
    )


def check_another(path: Path, model: Path) -> None:
    """Raise UsageError if the file to write is the model, or a snapshot of the run."""
    for each in (model, *model.glob("snapshots/*")):
        if path.exists() and each.exists() and path.samefile(each):
            raise UsageError(f"{path} is the model itself; name another file to write")


def sides_of(fixed: Any) -> tuple[int, int] | None:
    """The height and width that a graph takes; UsageError if `fixed` is not as `export` takes it."""
    sides = (fixed, fixed) if isinstance(fixed, int) else fixed
    if sides is not None and not (
        isinstance(sides, tuple) and len(sides) == 2 and all(isinstance(side, int) for side in sides)
    ):
        raise UsageError(f"fixed must be a side in pixels or (height, width), not {fixed!r}")
    return sides


def opened(
    model: str | Path | Translator, direction: str | None, best: bool
) -> tuple[Generator, Header, Sequence[str]]:
    if not isinstance(model, Translator):
        return open_generator(Path(model), direction=direction, best=best)
    if direction not in (None, model.header.direction):
        raise UsageError(f"the translator translates {model.header.direction}, not {direction}")
    if isinstance(model, OnnxTranslator):
        raise UsageError(
            "the translator runs an ONNX file; export the run or the .safetensors model it was made of"
        )
    return copy.deepcopy(model.generator).cpu(), model.header, ()


def runner(content: bytes, kind: Kind) -> Callable[[Pixels], Pixels]:
    """A function that runs the file on images in its own form."""
    if kind == "onnx":
        session = open_session(content)
        return lambda images: session.run(None, {"images": images})[0]
    program = open_program(content)
    return lambda images: program(torch.from_numpy(images)).numpy()


def write(report: Report, content: bytes) -> None:
    """Write the file and its report, both or neither."""
    text = json.dumps(report.to_dict(), indent=1)
    beside = report.file.with_name(f"{report.file.name}.report.json")
    with explained_full_disk(report.file.parent), replacing(beside) as aside:
        aside.write_text(text, encoding="utf-8")
        write_atomically(report.file, content, durable=True)
