"""`twofold export`: a model as a file that other programs run."""

import math
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.prompt import Confirm

from twofold.cli.options import Direction, Flag
from twofold.cli.terminal import emit, grid, in_words, paragraph, tracked
from twofold.errors import UsageError

if TYPE_CHECKING:
    from twofold.exporting.export import Report
    from twofold.exporting.proof import Row


def export(
    model: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    to: Literal["onnx", "html", "pt2", "pth"] | None = None,
    direction: Direction | None = None,
    best: Flag = False,
    fixed: str | None = None,
    io: Literal["float", "uint8"] | None = None,
    fp16: Flag = False,
    tolerance: float | None = None,
    ort: Path | None = None,
    webgpu: Flag = False,
    yes: Flag = False,
) -> None:
    """Write a model as a file that other programs run: .onnx, .html (a web page), .pt2 (PyTorch), .pth (weights).

    Example: `twofold export runs/h2z -o h2z.onnx`.

    An .onnx or .pt2 file is compared with PyTorch on held-out images of the run first, and written only if it gives
    the same pixels; FILE.report.json holds the comparison.

    Args:
        model: A run folder, a .safetensors model, or a checkpoint that `twofold import` takes.
        out: The file to write. Its suffix tells the kind.
        to: The kind, if the suffix does not tell it. pth is a checkpoint that test.py of
            pytorch-CycleGAN-and-pix2pix or of CUT loads, such as latest_net_G_A.pth.
        direction: ab or ba; ab if not given. A model file has its own. A web page of a run has both if not given.
        best: Use the run's best snapshot on held-out images, not the newest.
        fixed: onnx: the one size that the graph takes, such as 512 or 768x512 (WIDTHxHEIGHT); for OpenCV and TensorRT.
        io: onnx: float is (N, C, H, W) from -1 to 1; uint8 is (N, H, W, C) of the values that files store (uint16 and
            so on for deeper images). float if not given.
        fp16: onnx: half precision, except for the norms. html: weights are stored in half precision.
        tolerance: The largest difference from PyTorch, in levels of the output: 1 of 255, and 8 with --fp16, if not
            given.
        ort: html: the folder of the npm package onnxruntime-web, if it is not installed.
        webgpu: html: also run on the GPU; the page is larger.
        yes: html: download onnxruntime-web with npm without asking.
    """
    kind = to or out.suffix.removeprefix(".")
    if kind == "html":
        if fixed or io or tolerance is not None:
            raise UsageError(
                "--fixed, --io and --tolerance are for .onnx files; leave them out for a web page"
            )
        write_page(model, out, direction, best, ort=ort, webgpu=webgpu, yes=yes, fp16=fp16)
        return
    if ort or webgpu or yes:
        raise UsageError("--ort, --webgpu and --yes are for web pages; leave them out, or write -o PAGE.html")
    size = size_of(fixed) if fixed else None
    from twofold.exporting.export import export as write
    from twofold.exporting.export import kind_of

    report = write(
        model,
        out,
        to=kind_of(out, to),
        direction=direction,
        best=best,
        fixed=size,
        io=io or "float",
        fp16=fp16,
        tolerance=tolerance,
        track=tracked,
    )
    network = in_words({"network": report.header.network["network"], **report.header.network})
    megabytes = report.bytes / 1e6
    emit(paragraph(f"{out}: {network}, {megabytes:,.{1 if megabytes >= 1 else 3}f} MB"))
    if report.rows:
        emit_proof(report, fp16)
    for line in (*report.notes, *how_to_use(report, size, io or "float")):
        emit(paragraph(line, "- ", "  "))


def size_of(text: str) -> tuple[int, int]:
    """512, or 768x512 (WIDTHxHEIGHT), as (height, width) in pixels."""
    found = re.fullmatch(r"([1-9]\d{0,4})(?:[x×]([1-9]\d{0,4}))?", text)
    if not found:
        raise UsageError(
            f"--fixed must be a number of pixels such as 512, or WIDTHxHEIGHT such as 768x512, not {text}"
        )
    return int(found[2] or found[1]), int(found[1])


def emit_proof(report: "Report", fp16: bool) -> None:
    """The table of comparisons with PyTorch."""
    file = "ONNX Runtime" if report.kind == "onnx" else "the file"
    header = ["compared", "size", "max", "mean", "PSNR", "PyTorch", file]
    emit("")
    for line in grid(header, [cells(row) for row in report.rows]):
        emit(line)
    emit("")
    half = " ONNX Runtime computes half precision in float32 on most CPUs." if fp16 else ""
    emit(
        paragraph(
            f"max and mean are differences in levels of the output, at most {report.tolerance:g} allowed; PSNR is in"
            f" dB, times are per image on this CPU.{half}"
        )
    )


def cells(row: "Row") -> list[str]:
    height, width = row.size
    count = f"{row.images} × " if row.images > 1 else ""
    name = row.name if len(row.name) <= 20 else f"…{row.name[-19:]}"
    figures = [f"{row.max:.2g}", f"{row.mean:.1g}", "exact" if math.isinf(row.psnr) else f"{row.psnr:.0f}"]
    return [name, f"{count}{width}×{height}", *figures, f"{row.torch_ms:.0f} ms", f"{row.file_ms:.0f} ms"]


def how_to_use(report: "Report", fixed: tuple[int, int] | None, io: str) -> list[str]:
    """What a program that runs the file has to know."""
    from twofold.exchange.export import how_to_use
    from twofold.translation.header import contract_in_words, scale_in_words

    header = report.header
    if report.kind == "pth":
        return list(how_to_use(header))
    height, width = fixed or ("H", "W")
    count = 1 if fixed else "N"
    channels = [header.network.get(f"{end}_channels", 3) for end in ("in", "out")]
    contracts = header.source_contract, header.target_contract
    if io == "uint8":
        forms = [f"{each.dtype} ({count}, {height}, {width}, {each.channels})" for each in contracts]
    else:
        forms = [f"float32 ({count}, {each}, {height}, {width}) from -1 to 1" for each in channels]
    takes, gives = (contract_in_words(each) for each in contracts)
    lines = [f"takes {forms[0]} as `images`, gives {forms[1]} as `translated`"]
    scale = scale_in_words(header)
    first = "give images as they are" if "own scale" in scale else "scale images like this first"
    if fixed:
        first = f"scale images to {width}×{height} px first"
    lines.append(f"trained on {takes}, {scale}; {first}. It makes {gives}.")
    if header.lab:
        lines.append(
            "it works on 8-bit Lab values, of which the file has the lightness at one end, the colour at the other"
        )
    if header.network.get("dropout"):
        lines.append("dropout is off, so equal images give equal results")
    if report.kind == "onnx" and report.file.suffix == ".onnx":
        lines.append(f"`twofold translate {shlex.quote(str(report.file))} IMAGES -o OUT` runs it")
    return lines


def write_page(
    model: Path,
    out: Path,
    direction: Direction | None,
    best: bool,
    *,
    ort: Path | None,
    webgpu: bool,
    yes: bool,
    fp16: bool,
) -> None:
    from twofold.exchange.load import open_generator
    from twofold.exporting.export import check_another
    from twofold.exporting.page import find_runtime
    from twofold.exporting.page import write_page as write
    from twofold.runs import DIRECTIONS, Run

    check_another(out, model)
    ways = [direction] if direction else [way for way in DIRECTIONS if Run(model).snapshots(way)] or [None]
    opened = [open_generator(model, direction=way, best=best) for way in ways]
    generators = {each.header.direction: (each.generator, each.header) for each in opened}
    consent = yes or (find_runtime(ort) is None and is_agreed())
    title = model.resolve().stem
    sizes = write(generators, out, title=title, ort=ort, webgpu=webgpu, consent=consent, fp16=fp16)
    emit(paragraph(f"{out}: {sizes}"))
    if any(each.header.noise for each in opened):
        emit(paragraph("dropout is off, so equal images give equal results", "- ", "  "))


def is_agreed() -> bool:
    """Ask on a terminal whether npm may download the runtime; elsewhere the answer is no."""
    question = "onnxruntime-web is not installed. Download it with npm (MIT licence, 30 MB)?"
    return sys.stdin.isatty() and Confirm.ask(question)
