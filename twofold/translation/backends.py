"""The programs that can run a trained generator: torch, and on a CPU OpenVINO or ONNX Runtime."""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from twofold.errors import TwofoldError, UsageError
from twofold.networks.layers import Generator
from twofold.translation.graph import trace
from twofold.translation.sizes import taken

Backend = Literal["torch", "openvino", "onnxruntime"]
PRECISIONS = ("auto", "float32", "bf16")
Forward = Callable[[Tensor], Tensor]
"""From images (N, C, H, W), float32 in [-1, 1], to the generator's output, float32 in [-1, 1]."""


def make_forward(backend: Backend, generator: Generator, precision: str, noise: bool) -> Forward:
    """Prepare `backend` to run a generator in eval mode, on as many threads as torch has.

    Args:
        precision: "float32" or "bf16": autocast in torch, a hint to OpenVINO; ONNX Runtime has no bf16 on a CPU.
        noise: whether dropout is on, which only torch can do.

    Raises:
        UsageError: there is no such backend or precision, the backend is not installed, or it cannot do this.
    """
    for name, value, choices in (
        ("backend", backend, get_args(Backend)),
        ("precision", precision, PRECISIONS),
    ):
        if value not in choices:
            raise UsageError(f"{name} must be {' or '.join(choices)}, not {value!r}")
    if backend == "torch":
        return partial(run_torch, generator, precision)  # unlike a lambda it can be copied and pickled
    device = next(generator.parameters()).device
    if device.type != "cpu":
        raise UsageError(f"--backend {backend} runs on the CPU, not on {device}; use --device cpu")
    if precision == "bf16" and backend == "onnxruntime":
        raise UsageError("--backend onnxruntime has no bf16; leave out --precision, or use another --backend")
    if noise:
        raise UsageError(f"--backend {backend} has no dropout noise; add --no-noise, or use --backend torch")
    try:
        return openvino(generator, precision) if backend == "openvino" else onnx_runtime(generator)
    except ImportError as error:
        extra = "openvino" if backend == "openvino" else "export"
        raise UsageError(
            f"--backend {backend} needs the package {error.name}: pip install 'twofold[{extra}]'"
        ) from error


def run_torch(generator: Generator, precision: str, images: Tensor) -> Tensor:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return generator(images).float()


def openvino(generator: Generator, precision: str) -> Forward:
    core = import_openvino().Core()
    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision.replace("float", "f"),  # by default bf16 where it is fast
    }
    model = core.compile_model(core.read_model(to_onnx(generator), b""), "CPU", options)
    request = model.create_infer_request()
    return lambda images: torch.from_numpy(request.infer({0: images.contiguous().numpy()})[0]).clone()


def import_openvino() -> ModuleType:
    """Import OpenVINO, its telemetry package hidden: that one would report the import over the network."""
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    return import_module("openvino")


def onnx_runtime(generator: Generator) -> Forward:
    session = open_session(to_onnx(generator))
    return lambda images: torch.from_numpy(session.run(None, {"images": images.contiguous().numpy()})[0])


def open_session(graph: Path | bytes) -> Any:
    """An `onnxruntime.InferenceSession` on as many threads as torch has.

    Raises:
        UsageError: onnxruntime is missing.
        TwofoldError: the graph is damaged.
    """
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UsageError("this needs the package onnxruntime: pip install 'twofold[export]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    content = str(graph) if isinstance(graph, Path) else graph
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes have no common base
        name = graph if isinstance(graph, Path) else "the graph"
        raise TwofoldError(f"{name} is damaged, or no ONNX file; export it again ({error!s:.100})") from error


def to_onnx(generator: Generator) -> bytes:
    """The generator as an ONNX file, for any number of images of any size that the generator takes."""
    side = taken(64, generator)  # to trace with
    image = torch.zeros(1, int(generator.arguments["in_channels"]), side, side)
    return trace(generator, image, {0: "n", 2: "height", 3: "width"})
