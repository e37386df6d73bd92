"""Trace a network to an ONNX graph: the one exporter, for the backends and for `twofold export`."""

import io
import warnings

import torch
from torch import Tensor, nn

from twofold.errors import TwofoldError

OPSET = 17
"""OpenCV, TensorRT and ONNX Runtime Web read it; 18, which the newer exporter writes, is not read by all of them."""

INPUT, OUTPUT = "images", "translated"


def trace(network: nn.Module, example: Tensor, axes: dict[int, str] | None) -> bytes:
    """The ONNX file of a network with one input, `images`, and one output, `translated`.

    Uses the older of torch's exporters: the newer one needs another package, writes no InstanceNormalization, and takes
    five times as long.

    Args:
        example: an input; values do not matter.
        axes: names for the axes of input and output that may have any length; None: all have the example's.

    Raises:
        TwofoldError: an operation of the network is not in ONNX, or its code decides by the values of a tensor.
    """
    import onnx  # noqa: F401  # pyright: ignore[reportMissingImports]  # the exporter's own error is less clear

    file = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        try:
            torch.onnx.export(
                network,
                (example,),
                file,  # pyright: ignore[reportArgumentType]
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes=axes and {INPUT: axes, OUTPUT: axes},
            )
        except (RuntimeError, TypeError, ValueError) as error:
            raise TwofoldError(cannot_trace(str(error))) from error
    for warning in caught:
        if is_decision(warning):
            raise TwofoldError(
                cannot_trace(f"line {warning.lineno} of {warning.filename} decides by the values of a tensor")
            )
    return file.getvalue()


def is_decision(warning: warnings.WarningMessage) -> bool:
    """Whether a network's own code makes a Python value of a tensor, which the graph then holds as a constant.

    Torch's own layers only check sizes that way.
    """
    is_tracer = issubclass(warning.category, torch.jit.TracerWarning)
    return is_tracer and "to a Python" in str(warning.message) and not warning.filename.startswith(TORCH)


TORCH = torch.__file__.removesuffix("__init__.py")


def cannot_trace(reason: str) -> str:
    first = next(iter(reason.strip().splitlines()), "no reason given")
    return f"this network cannot be exported: {first.strip():.300}; --to pth writes its weights"
