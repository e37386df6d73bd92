"""What runs a generator that is trained: torch itself, or OpenVINO or ONNX Runtime on a CPU, where installed."""

import io
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from twofold.errors import UsageError
from twofold.networks.layers import Generator

Backend = Literal["torch", "openvino", "onnxruntime"]
Forward = Callable[[Tensor], Tensor]
"""Images (N, C, H, W), float32 in [-1, 1], to the generator's answer, float32."""

TRACED = 64
"""Side of the image that the generator's operations are recorded on, where it takes so small a one."""


def forward(backend: Backend, generator: Generator, precision: str, noise: bool) -> Forward:
    """How `backend` runs a generator in eval mode, on as many threads as torch has.

    Args:
        precision: "float32", or "bf16" for networks under autocast; of the others, what OpenVINO may do.
        noise: whether dropout is on, which only torch draws.

    Raises:
        UsageError: the backend is not installed, or cannot do that.
    """
    if backend == "torch":
        return lambda images: in_torch(generator, images, precision)
    device = next(generator.parameters()).device
    if device.type != "cpu":
        raise UsageError(f"--backend {backend} runs on the CPU, not on {device}; give --device cpu")
    if noise:
        raise UsageError(f"--backend {backend} draws no noise; add --no-noise, or leave out --backend")
    return openvino(generator, precision) if backend == "openvino" else onnxruntime(generator)


def in_torch(generator: Generator, images: Tensor, precision: str) -> Tensor:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return generator(images).float()


def openvino(generator: Generator, precision: str) -> Forward:
    try:
        with untold():
            import openvino  # pyright: ignore[reportMissingImports]
        model = exported(generator)
    except ImportError as error:
        raise missing("openvino", error) from error
    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",  # else bf16 where it is fast
    }
    run = core.compile_model(core.read_model(model, b""), "CPU", options).create_infer_request()
    return lambda images: torch.from_numpy(run.infer({0: contiguous(images)})[0]).clone()


def onnxruntime(generator: Generator) -> Forward:
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]

        model = exported(generator)
    except ImportError as error:
        raise missing("onnx", error) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": contiguous(images)})[0])


def missing(extra: str, error: ImportError) -> UsageError:
    return UsageError(f"this backend needs the package {error.name}: pip install 'twofold[{extra}]'")


def contiguous(images: Tensor) -> object:
    return images.contiguous().numpy()


def exported(generator: Generator) -> bytes:
    """The generator as ONNX, for images of any count and size.

    The older of torch's exporters: the newer one needs one package more and takes five times as long.
    """
    import onnx  # noqa: F401  # pyright: ignore[reportMissingImports]  # the exporter says less clearly what it lacks

    side = max(TRACED, -(-generator.minimum // generator.multiple_of) * generator.multiple_of)
    image, file = torch.zeros(1, int(generator.arguments["in_channels"]), side, side), io.BytesIO()
    sides = {0: "n", 2: "height", 3: "width"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # on the exporter's age, and that sizes are taken as constants
        torch.onnx.export(
            generator,
            (image,),
            file,  # pyright: ignore[reportArgumentType]
            dynamo=False,
            input_names=["images"],
            output_names=["translated"],
            dynamic_axes={"images": sides, "translated": sides},
        )
    return file.getvalue()


@contextmanager
def untold() -> Iterator[None]:
    """Import OpenVINO as if its telemetry were not installed, which reports each import unless it was refused."""
    name = "openvino_telemetry"
    if "openvino" in sys.modules or name in sys.modules:  # somebody else's import: theirs to decide
        yield
        return
    sys.modules[name] = None  # pyright: ignore[reportArgumentType]  # which makes an import of it fail
    try:
        yield
    finally:
        del sys.modules[name]
