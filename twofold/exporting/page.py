"""A model as one web page that works without a network: the weights and ONNX Runtime Web are inside."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from twofold.errors import UsageError
from twofold.exporting.onnx import export_bytes, packages
from twofold.exporting.web_runtime import MIT, find_runtime, read_runtime  # noqa: F401 - the verb finds it before
from twofold.files import write_atomically
from twofold.formats.contract import Contract
from twofold.networks.layers import Generator
from twofold.pages.translate import offline_page, pack
from twofold.translation.header import Header, contract_in_words
from twofold.translation.memory import rough_bytes_per_pixel

LARGE = 256
"""Numbers in the smallest weight that `fp16` halves; norms, biases and ranges of values stay as they are."""


class PageSizes(NamedTuple):
    """Bytes of a page: its models, the runtime, and everything."""

    models: int
    runtime: int
    total: int

    def __str__(self) -> str:
        models, runtime, total = (f"{size / 1e6:.1f} MB" for size in self)
        return f"{total} (models {models}, ONNX Runtime Web {runtime})"


def write_page(
    generators: Mapping[str, tuple[Generator, Header]],
    out: Path,
    *,
    title: str,
    ort: Path | None = None,
    webgpu: bool = False,
    consent: bool = False,
    fp16: bool = False,
) -> PageSizes:
    """Write a page that translates pictures in a browser, whole or not at all; equal models give equal bytes.

    Args:
        generators: by direction, in the order of the page.
        ort: where ONNX Runtime Web is; see `find_runtime`.
        webgpu: with the runtime that computes on the graphics card where the browser can, which is twice as large.
        consent: whether npm may fetch ONNX Runtime Web if it is not installed.
        fp16: store the weights as 16-bit floats, which halves their size; the page computes in float32.

    Raises:
        UsageError: a browser cannot show what a model takes or gives, or ONNX Runtime Web is missing.
        TwofoldError: npm could not fetch it.
        OSError: the disk refused.
    """
    models = [describe(generator, header, title) for generator, header in generators.values()]
    packages()  # a missing one is named before anything is downloaded
    runtime = read_runtime(ort, webgpu, consent)
    weights = {}
    for direction, (generator, header) in generators.items():
        content = export_bytes(generator, header, io="uint8")
        weights[f"model-{direction}"] = pack(with_half_weights(content) if fp16 else content)
    packed = {name: pack(getattr(runtime, name)) for name in ("ort", "glue", "wasm")}
    licence = MIT.format(version=runtime.version)
    page = offline_page(
        title, models, packed | weights, webgpu=webgpu, version=runtime.version, licence=licence
    )
    write_atomically(out, page, durable=True)
    models_size, runtime_size = (sum(map(len, each.values())) for each in (weights, packed))
    return PageSizes(models_size, runtime_size, len(page.encode()))


# ---- what the page must know of a model


def describe(generator: Generator, header: Header, name: str) -> dict[str, Any]:
    """What static/translate-worker.js needs: the contracts of both ends, and the sizes that the network takes.

    Raises:
        UsageError: a browser cannot show what the model takes or gives.
    """
    source, target = header.source_contract, header.target_contract
    if header.lab or target.is_labels:
        what = "works in Lab colours" if header.lab else "makes label maps"
        raise UsageError(f"this model {what}, which a web page cannot do; use `twofold serve`")
    for contract, verb, channels in ((source, "takes", (1, 3)), (target, "gives", (1, 3, 4))):
        if contract.dtype != "uint8" or contract.channels not in channels:
            raise UsageError(
                f"a web page has 8-bit pictures, grey or in colour; this model {verb} {contract_in_words(contract)}:"
                " use `twofold serve`, or export it as .onnx"
            )
    return {
        "name": name,
        "direction": header.direction,
        "channels": source.channels,
        "out_channels": target.channels,
        "ids": colours_of_ids(source),
        "icc": source.icc,
        "scale": header.geometry and header.geometry._asdict(),
        "side": header.size,
        "nearest": header.nearest,
        "multiple": generator.multiple_of,
        "bytes_per_pixel": rough_bytes_per_pixel(generator),
    }


def colours_of_ids(contract: Contract) -> list[tuple[int, int]] | None:
    """Pairs of a colour 0xRRGGBB, in which a browser shows an id of a label map, and that id; None for other images."""
    labels = contract.labels
    if not labels or labels.ids is None:
        return None
    palette = labels.palette or [(each, each, each) for each in range(256)]
    colours = [palette[each] if each < len(palette) else (0, 0, 0) for each in labels.ids]
    return [((r << 16) | (g << 8) | b, each) for (r, g, b), each in zip(colours, labels.ids, strict=True)]


def with_half_weights(content: bytes) -> bytes:
    """An ONNX file with its weights as float16, each cast to float32 where the graph uses it."""
    onnx, _ = packages()
    model = onnx.load_from_string(content)
    for weight in model.graph.initializer:
        array, name = onnx.numpy_helper.to_array(weight), weight.name
        if array.dtype == "float32" and array.size >= LARGE:
            weight.CopyFrom(
                onnx.numpy_helper.from_array(array.clip(-65504, 65504).astype("float16"), f"{name}.half")
            )
            cast = onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT)
            model.graph.node.insert(0, cast)
    return model.SerializeToString(deterministic=True)
