"""A generator as an ONNX file for other programs."""

from twofold.networks.layers import Generator
from twofold.translation.backends import to_onnx
from twofold.translation.header import Header


def export_bytes(
    generator: Generator,
    header: Header,
    *,
    io: str = "float",
    fp16: bool = False,
    fixed: tuple[int, int] | None = None,
) -> bytes:
    """The ONNX file of a generator."""
    return to_onnx(generator)
