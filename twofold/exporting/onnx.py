"""A generator as an ONNX file, for OpenCV, TensorRT, ONNX Runtime and others."""

import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from twofold.errors import TwofoldError, UsageError
from twofold.exporting.portable import Portable
from twofold.networks.layers import Generator
from twofold.translation import memory
from twofold.translation.graph import INPUT, OUTPUT, trace
from twofold.translation.header import Header
from twofold.translation.onnx_file import Form, IoName

IN_FLOAT32 = ["InstanceNormalization"]
"""Operators that `fp16` leaves in float32: the sum of squares of a norm overflows in half precision."""


def export_bytes(
    generator: Generator,
    header: Header,
    *,
    io: IoName = "float",
    fp16: bool = False,
    fixed: tuple[int, int] | None = None,
) -> bytes:
    """The ONNX file of a generator in eval mode on the CPU: opset 17, dropout off, the header in its metadata.

    Args:
        io: "float": (N, C, H, W) in [-1, 1], in and out. "uint8": (N, H, W, C) in the stored types of both domains,
            uint8 or for deeper ones uint16 and so on, with their ranges.
        fp16: half precision inside, except for norms; input and output keep their types.
        fixed: (height, width) in pixels: the graph takes one image of this size. None: any number of any size, which
            it pads and crops.

    Raises:
        UsageError: onnx or onnxruntime is missing, or the network has no such form.
        TwofoldError: the network cannot be exported.
    """
    onnx, _ = packages()
    if fixed:
        check_fixed(generator, *fixed)
    stored = io == "uint8"
    network = Portable(generator, header, stored=stored, padded=fixed is None).eval()
    traced = trace(network, example(generator, header, stored, fixed), None if fixed else axes(stored))
    model = onnx.load_from_string(folded(traced))
    if fp16:
        model = halved(model)
    if stored:
        retype(model, model.graph.input[0], header.source_contract.dtype)
        retype(model, model.graph.output[0], header.target_contract.dtype)
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", 17))
    form = Form(io, fixed, fp16, generator.multiple_of, generator.minimum)
    onnx.helper.set_model_props(model, {"twofold": header.to_json(), "twofold_form": form.to_json()})
    model.producer_name, model.producer_version, model.graph.name = "twofold", "", "translator"
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def packages() -> tuple[Any, ModuleType]:
    """onnx and onnxruntime.

    Raises:
        UsageError: one is missing.
    """
    try:
        import onnx  # pyright: ignore[reportMissingImports]
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UsageError(
            f"exporting to ONNX needs the package {error.name}: pip install 'twofold[export]'"
        ) from error
    return onnx, onnxruntime


def check_fixed(generator: Generator, height: int, width: int) -> None:
    """Refuse a size that the network does not take, or that does not fit into memory.

    Raises:
        UsageError: names the nearest sizes.
    """
    multiple, least = generator.multiple_of, generator.minimum
    for side in (height, width):
        if side % multiple or side < least:
            below, above = (max(least, each * multiple) for each in (side // multiple, -(-side // multiple)))
            nearest = f"{below} or {above}" if below != above else f"{above}"
            raise UsageError(
                f"--fixed {width}x{height}: this network takes multiples of {multiple} from {least} px up;"
                f" instead of {side} use {nearest}"
            )
    available = memory.room(torch.device("cpu"))
    needed = height * width * memory.rough_bytes_per_pixel(generator)
    if available is not None and needed > available:
        raise UsageError(
            f"--fixed {width}x{height} is too large: it needs about {needed / 2**20:,.0f} MiB of memory,"
            f" {available / 2**20:,.0f} are free"
        )


def example(
    generator: Generator, header: Header, stored: bool, fixed: tuple[int, int] | None
) -> torch.Tensor:
    """An input to trace with."""
    height, width = fixed or (70, 66)
    if stored:
        return torch.zeros(1, height, width, header.source_contract.channels)
    return torch.zeros(1, int(generator.arguments["in_channels"]), height, width)


def axes(stored: bool) -> dict[int, str]:
    """The names of the axes that may have any length."""
    return {0: "n", 1: "height", 2: "width"} if stored else {0: "n", 2: "height", 3: "width"}


def folded(content: bytes) -> bytes:
    """The same graph with constant parts computed, by ONNX Runtime: padding is some ten operators otherwise."""
    _, onnxruntime = packages()
    with tempfile.TemporaryDirectory(prefix="twofold-") as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder, "folded.onnx"))
        options.log_severity_level = 3
        try:
            onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its classes have no common base
            raise TwofoldError(
                f"ONNX Runtime cannot load this network, or {folder} has no room for it ({error!s:.100}); free some space"
                " there, or name another place in TMPDIR"
            ) from error
        return Path(options.optimized_model_filepath).read_bytes()


def halved(model: Any) -> Any:
    """The generator in half precision. What is around it, the padding and the range of values, stays in float32."""
    from onnxruntime.transformers import float16, onnx_model  # pyright: ignore[reportMissingImports]

    give_norms_their_own_weights(model)
    around = [node.name for node in model.graph.node if not node.name.startswith("/generator/")]
    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *IN_FLOAT32]
    half = float16.convert_float_to_float16(
        model, keep_io_types=True, op_block_list=blocked, node_block_list=around
    )
    onnx_model.OnnxModel(half).topological_sort()
    return half


def give_norms_their_own_weights(model: Any) -> None:
    """Undo the sharing of equal weights, since those that a convolution also uses would be halved."""
    stored, nodes = model.graph.initializer, model.graph.node
    by_name = {each.name: each for each in stored}
    for node in (each for each in nodes if each.op_type in IN_FLOAT32):
        for place, name in enumerate(node.input[1:], 1):
            node.input[place] = f"{node.name}/{place}"
            stored.add().CopyFrom(by_name[name])
            stored[-1].name = node.input[place]
    used = {name for node in nodes for name in node.input}
    for unused in [each for each in stored if each.name not in used]:
        stored.remove(unused)


def retype(model: Any, value: Any, dtype: str) -> None:
    """Give the input or the output of a graph, a float32, the type `dtype`, with a conversion inside.

    The exporter itself does not know uint16.
    """
    onnx, _ = packages()
    kind, inside = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), f"{value.name}_float"
    is_input = value.name == INPUT
    for node in model.graph.node:
        names = node.input if is_input else node.output
        names[:] = [inside if name == value.name else name for name in names]
    ends = (INPUT, inside) if is_input else (inside, OUTPUT)
    to = onnx.TensorProto.FLOAT if is_input else kind
    cast = onnx.helper.make_node("Cast", [ends[0]], [ends[1]], name=f"/{value.name}/Cast", to=to)
    model.graph.node.insert(0 if is_input else len(model.graph.node), cast)
    value.type.tensor_type.elem_type = kind
