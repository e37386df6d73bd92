"""A generator as a program of `torch.export`, a .pt2 file that torch alone loads and runs."""

import io
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx.experimental import _config as shapes

from twofold.errors import TwofoldError
from twofold.exporting.portable import Portable
from twofold.networks.layers import Generator
from twofold.translation.graph import cannot_trace
from twofold.translation.header import Header


def program_bytes(generator: Generator, header: Header) -> bytes:
    """The .pt2 file of a generator in eval mode: (N, C, H, W) in [-1, 1] of any N, H and W, in and out.

    `torch.export.load(path).module()` runs it; the extra file `twofold` in it is the header.

    Raises:
        TwofoldError: torch.export cannot export the network.
    """
    network, file = Portable(generator, header, stored=False, padded=True).eval(), io.BytesIO()
    images = torch.zeros(2, int(generator.arguments["in_channels"]), 70, 66)
    any_length = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    with (
        warnings.catch_warnings(),
        torch.no_grad(),
        shapes.patch(backed_size_oblivious=True),
    ):  # 1 is a size as others
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(network, (images,), dynamic_shapes=(any_length,))
        except Exception as error:  # of many classes
            raise TwofoldError(cannot_trace(str(error))) from error
        torch.export.save(program, file, extra_files={"twofold": header.to_json()})
    return file.getvalue()


def open_program(content: bytes) -> Callable[[Tensor], Tensor]:
    """Load what `program_bytes` gave."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.load(io.BytesIO(content)).module()
