"""Where a layer runs, and so whose means it takes: this package's, on a CPU, or torch's own."""

import torch
from torch import Tensor

from twofold.networks.remade import kernels_of


def eager_here(input: Tensor) -> bool:
    """Whether the input is on a CPU, and in no other program's hands: those have means of their own."""
    return input.device.type == "cpu" and not is_traced() and not torch.compiler.is_compiling()


def computed_here(input: Tensor) -> bool:
    """Whether the input is one for whose convolution the library is not known to be best."""
    return eager_here(input) and not torch.is_autocast_enabled("cpu")


def rounding_here(input: Tensor) -> bool:
    """Whether the input is to be convolved in bf16, by autocast's word."""
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return autocast and eager_here(input)


def rounded_here(input: Tensor) -> bool:
    """Whether the library convolves the input in bf16, and kernels do what stands around that."""
    return eager_here(input) and torch.is_autocast_enabled("cpu") and kernels_of(input) is not None


def is_traced() -> bool:
    """Whether the network is being traced for an exporter, which knows torch's own operations only."""
    return torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
