"""Export networks in every form and write the differences from PyTorch to docs/export.md.

    python benchmarks/export_parity.py --record export-parity

Each network has the paper's size and seeded weights (Kaiming: outputs reach from black to white, as a trained network's
do); each file is written by `twofold.export` after its own comparison with PyTorch. Takes some minutes on a quiet machine.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from record import ROOT, commit, machine, measurement

import twofold
from twofold.exporting.export import Report
from twofold.formats.contract import Contract
from twofold.formats.scale import Geometry
from twofold.networks.layers import Generator, initialise
from twofold.networks.registry import describe
from twofold.networks.resnet_skips import resnet
from twofold.networks.unet import UnetGenerator
from twofold.translation.header import Header
from twofold.translation.translator import Translator

RGB, GREY = Contract(), Contract(channels=1)
BANDS = Contract("uint16", 4, (0.0,), (4095.0,), "bits")


class Case(NamedTuple):
    """A network and the contracts of its images."""

    build: Callable[..., Generator]
    source: Contract = RGB
    target: Contract = RGB


CASES = {
    "ResNet-9, instance norm (CycleGAN)": Case(resnet),
    "U-Net-256, batch norm by image, dropout (pix2pix)": Case(
        lambda **more: UnetGenerator(dropout=True, **more)
    ),
    "ResNet-9, antialiased (CUT)": Case(lambda **more: resnet(antialias=True, upsample="blur", **more)),
    "ResNet-9, grey to RGB": Case(resnet, GREY, RGB),
    "ResNet-9, 4 bands of 12 bits": Case(resnet, BANDS, BANDS),
}

SIZE = 256
"""Side in pixels of the trained scale and of the fixed files."""

FORMS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float32, fixed": {"fixed": SIZE},
    "float32, uint8": {"io": "uint8"},
    "fp16": {"fp16": True},
    "fp16, fixed": {"fp16": True, "fixed": SIZE},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=64, help="of every network")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "export.md")
    parser.add_argument("--record", metavar="NAME", help="keep the figures in benchmarks/records/DATE-NAME")
    options = parser.parse_args()
    facts = {"commit": commit(ROOT), "threads": torch.get_num_threads(), "width": options.width}
    lines = [HEAD.format(**facts, **machine())]
    with measurement(options.record) as figures, tempfile.TemporaryDirectory() as home:
        for name, case in CASES.items():
            translator = make(case, options.width)
            print(f"\n{name}")
            lines += ["", f"## {name}", "", *TABLE]
            for form, more in FORMS.items():
                report = twofold.export(translator, Path(home, "x.onnx"), **more)
                lines.append(row(form, report))
                figures[f"{name}: {form}"] = report.to_dict()["rows"]
                print(lines[-1])
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"\nwrote {options.out.name}")


HEAD = """# Exported files against PyTorch

Made by `python benchmarks/export_parity.py`, at commit `{commit}`; networks of width {width}, {threads} thread(s) of
{cpu}, {load} before the start. Do not edit it by hand.

Each row is one file of `twofold export`, compared with PyTorch on three pictures at 256 px. Files of any size are also
compared on 201×130 and 41×67 pixels and on a batch of two. *max* is the largest difference of all pictures in levels of
the output (255 levels of 8 bits, 4,095 of 12 bits), *mean* and *PSNR* are those of the worst picture. Times are for one
picture of 256 px. ONNX Runtime computes half precision in float32 on most CPUs, so the times of fp16 are no guide to a
GPU. The weights are random (Kaiming), with outputs from black to white.

*uint8* is `--io uint8`: stored values in and out, whose differences are whole levels."""

TABLE = [
    "| form | max | mean | PSNR (dB) | PyTorch (ms) | ONNX Runtime (ms) | size (MB) |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
]


def make(case: Case, width: int) -> Translator:
    torch.manual_seed(0)
    ends = {"in_channels": case.source.channels, "out_channels": case.target.channels}
    generator = case.build(width=width, **ends)
    initialise(generator, "kaiming")
    geometry = Geometry("resize-and-crop", SIZE, SIZE)
    header = Header.of(describe(generator), "ab", case.source, case.target, geometry)
    return Translator.of(generator, header, device="cpu", noise=False)


def row(form: str, report: Report) -> str:
    worst = max(row.max for row in report.rows)
    mean, psnr = max(row.mean for row in report.rows), min(row.psnr for row in report.rows)
    timed = report.rows[:3]
    torch_ms, file_ms = (sorted(getattr(row, name) for row in timed)[1] for name in ("torch_ms", "file_ms"))
    cells = [
        f"{worst:.2g}",
        f"{mean:.1g}",
        f"{psnr:.0f}",
        f"{torch_ms:.0f}",
        f"{file_ms:.0f}",
        f"{report.bytes / 1e6:.1f}",
    ]
    return f"| {' | '.join([form, *cells])} |"


if __name__ == "__main__":
    main()
