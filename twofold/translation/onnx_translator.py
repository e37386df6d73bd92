"""A translator whose network is an exported ONNX file, run by ONNX Runtime on the CPU."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from twofold.errors import UsageError
from twofold.formats.contract import Pixels
from twofold.formats.values import from_network, to_network
from twofold.networks.layers import Generator
from twofold.translation.backends import Backend, open_session
from twofold.translation.header import Header
from twofold.translation.onnx_file import Form, check_exists, from_metadata
from twofold.translation.sizes import At, pad
from twofold.translation.translator import Translator

DEFAULTS = {"in_channels": 3, "out_channels": 3, "width": 64, "upsample": "transposed"}
"""Of arguments that a header may leave out."""


def load_onnx(
    path: Path,
    *,
    direction: str | None = None,
    device: str = "auto",
    noise: bool | None = None,
    precision: str = "float32",
    backend: Backend = "torch",
) -> "OnnxTranslator":
    """Load a file that `twofold export` wrote; arguments and errors as of `Translator.load`."""
    if str(device) not in ("auto", "cpu"):
        raise UsageError(f"{path} runs in ONNX Runtime on the CPU, not on {device}; leave out --device")
    if precision == "bf16":
        raise UsageError(
            f"{path} has no bf16; leave out --precision, or give the run or the .safetensors model"
        )
    if backend not in ("torch", "onnxruntime"):
        raise UsageError(f"{path} runs in ONNX Runtime; for {backend} give the run or the .safetensors model")
    if noise:
        raise UsageError(
            f"{path} has no dropout noise; leave out --noise, or give the run or the .safetensors model"
        )
    check_exists(path)
    session = open_session(path)
    header, form = from_metadata(session.get_modelmeta().custom_metadata_map, path)
    if direction not in (None, header.direction):
        raise UsageError(f"{path} translates {header.direction}, not {direction}; load the other model")
    return OnnxTranslator(session, header, form)


class OnnxNetwork(Generator):
    """A session in place of a generator: (N, C, H, W) in [-1, 1] to the same, whatever the form of the graph."""

    def __init__(self, session: Any, header: Header, form: Form) -> None:
        super().__init__()
        self.session, self.form, self.per_image = session, form, True
        self.source, self.target = header.source_contract, header.target_contract
        self.multiple_of, self.minimum = form.multiple_of, form.minimum
        self.arguments = {**DEFAULTS, **header.network}

    def forward(self, images: Tensor) -> Tensor:
        if self.form.io == "float":
            return torch.from_numpy(self.run(images.contiguous().numpy()))
        stored = from_network(images, self.source).permute(0, 2, 3, 1)
        made = torch.from_numpy(self.run(stored.contiguous().numpy()))
        return to_network(made.permute(0, 3, 1, 2), self.target)

    def run(self, images: Pixels) -> Pixels:
        """Run the graph on what it takes."""
        return self.session.run(None, {"images": images})[0]


class OnnxTranslator(Translator):
    """A translator that runs an exported file.

    A file with a fixed size sees an image at the trained scale, or smaller where that does not fit, and mirrored at the
    lower and right edge up to its size. That is nearer to the model's own translation than scaling up: a run at 36 px
    differed by 6 levels on average in a file of 40 px and by 10 in one of 64 px, scaled up by 10 and 16.
    """

    def __init__(self, session: Any, header: Header, form: Form) -> None:
        super().__init__(OnnxNetwork(session, header, form), header, noise=False)
        self.form, self.max_batch, self.backend = form, 1, "onnxruntime"

    def working_size(self, height: int, width: int, at: At = "trained") -> tuple[int, int]:
        rows, columns = super().working_size(height, width, at)
        if not self.form.fixed:
            return rows, columns
        shrunk = min(1.0, *(most / side for most, side in zip(self.form.fixed, (rows, columns), strict=True)))
        return max(1, round(rows * shrunk)), max(1, round(columns * shrunk))

    def pad(self, image: Pixels) -> Pixels:
        return pad(image, self.form.fixed) if self.form.fixed else super().pad(image)

    def save(self, path: str | Path) -> None:
        raise UsageError(f"an ONNX file has no weights to save as {path}; copy the file itself")
