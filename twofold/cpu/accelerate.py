"""A network's layers made faster on a CPU: the one entrance to this room."""

import copy
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from twofold.cpu import native, winograd
from twofold.cpu.bf16 import HalvedByBlur, NativeNorm, RoundedConv, RoundedTransposedConv
from twofold.cpu.filter_gradients import StridedConv, TransposedConv
from twofold.cpu.gradients import Algorithm, Convolution
from twofold.cpu.native import LANES, Kernels
from twofold.cpu.winograd_matrices import TILES
from twofold.networks.blur import BlurDown
from twofold.networks.layers import InstanceNorm

Network = TypeVar("Network", bound=nn.Module)

WINOGRAD_FROM, NATIVE_WINOGRAD_FROM = 48 * 96, 32 * 32
"""Least product of input and output channels for which Winograd's convolution was faster than the library's: with torch's
operations, and with C kernels."""


def accelerate(network: Network, kernels: bool = True) -> Network:
    """Give suitable layers of a network, in place, a class whose `forward` is faster on a CPU; returns the network.

    Suitable are `nn.Conv2d` and `nn.ConvTranspose2d` with square kernels and without groups or dilation,
    `nn.ReflectionPad2d`, `InstanceNorm` and `BlurDown`; subclasses and parametrized layers (spectral norm) are left as
    they are. Any network may be given. Weights, state dict keys, hooks, deepcopy, `.to()` and gradients stay as they
    are, and outputs are equal within rounding. A pickle holds torch's own layers.

    A layer computes as torch does, by its own class's `forward`, for everything but float32, float64 and bf16 autocast
    on a CPU, and where something else must see torch's operations: a trace, an export, a compiler, function transforms
    (`torch.func`), forward-mode gradients, dispatch modes, tensor subclasses.

    Args:
        kernels: whether C code may be used where a compiler is at hand (`native.available`). Each layer keeps this
            switch; there is no setting of the process. A layer that is accelerated already keeps its own.
    """
    for module in network.modules():
        fast = FAST.get(type(module))
        if fast is not None and fast.suits(module):
            module.__class__ = fast
            module.__dict__["kernels"] = kernels
    return network


class Accelerated(nn.Module):
    """Base of the faster layers."""

    plain_class: ClassVar[type[nn.Module]]
    kernels: bool

    @staticmethod
    def suits(layer: Any) -> bool:  # noqa: ARG004
        """Whether a layer of the plain class can be accelerated."""
        return True

    def usable_kernels(self, *channels: int) -> Kernels | None:
        """The C kernels, if this layer may use them and they can handle so many channels."""
        fits = self.kernels and all(count % LANES == 0 for count in channels)
        return native.kernels() if fits else None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Accelerated":
        made = memo[id(self)] = object.__new__(type(self))
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Pickle as the plain layer, which can be loaded where this package is not installed."""
        state = {name: value for name, value in self.__dict__.items() if name != "kernels"}
        return object.__new__, (self.plain_class,), state


class FastConv2d(Accelerated, nn.Conv2d):
    plain_class = nn.Conv2d

    @staticmethod
    def suits(layer: nn.Conv2d) -> bool:
        return is_square(layer) and layer.padding_mode in ("zeros", "reflect")

    def forward(self, input: Tensor) -> Tensor:
        if not is_convolvable(input, self):
            return super().forward(input)
        stride, padding, reflect = self.stride[0], int(self.padding[0]), self.padding_mode == "reflect"
        if torch.is_autocast_enabled("cpu"):
            images = input.bfloat16()
            if reflect:
                images, padding = reflected(images, (padding,) * 4), 0
            return convolved(images, self, RoundedConv(stride, padding, self.usable_kernels()))
        kernels = self.usable_kernels(*self.weight.shape[:2]) if input.dtype == torch.float32 else None
        least = NATIVE_WINOGRAD_FROM if kernels else WINOGRAD_FROM
        large = self.in_channels * self.out_channels >= least
        if self.kernel_size[0] in TILES and stride == 1 and padding <= 1 and large:
            how = (*input.shape[2:], self.kernel_size[0], padding, reflect, input.dtype, kernels)
            return convolved(input, self, winograd.plan(*how))
        if stride == 2 and not reflect:
            return convolved(input, self, StridedConv(padding))
        return super().forward(input)


class FastConvTranspose2d(Accelerated, nn.ConvTranspose2d):
    plain_class = nn.ConvTranspose2d

    @staticmethod
    def suits(layer: nn.ConvTranspose2d) -> bool:
        output_padding = layer.output_padding
        return is_square(layer) and layer.stride[0] == 2 and output_padding[0] == output_padding[1]

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None or not is_convolvable(input, self):
            return super().forward(input, output_size)
        padding, more = int(self.padding[0]), int(self.output_padding[0])
        if torch.is_autocast_enabled("cpu"):
            how = RoundedTransposedConv(padding, more, self.usable_kernels())
            return convolved(input.bfloat16(), self, how)
        return convolved(input, self, TransposedConv(padding, more))


class FastReflectionPad2d(Accelerated, nn.ReflectionPad2d):
    """Keeps bf16 under autocast, which makes reflected edges float32 on a CPU, only for the next convolution to round."""

    plain_class = nn.ReflectionPad2d

    def forward(self, input: Tensor) -> Tensor:
        return reflected(input, self.padding) if is_rounded(input) else super().forward(input)


class FastInstanceNorm(Accelerated, InstanceNorm):
    """Uses C kernels for bf16 images under autocast."""

    plain_class = InstanceNorm

    def forward(self, input: Tensor) -> Tensor:
        fits = is_rounded(input) and input.dim() == 4 and len(input) and input.shape[2:].numel() > 1
        fits = fits and input.is_contiguous(memory_format=torch.channels_last)
        kernels = self.usable_kernels(input.shape[1]) if fits else None
        made: Any = NativeNorm.apply(input, self.eps, kernels) if kernels else super().forward(input)
        return made


class FastBlurDown(Accelerated, BlurDown):
    """Has a faster gradient for bf16 images under autocast."""

    plain_class = BlurDown

    def forward(self, x: Tensor) -> Tensor:
        if not is_rounded(x) or x.dim() != 4:
            return super().forward(x)
        made: Any = HalvedByBlur.apply(self.pad(x), self.kernel.to(x.dtype))
        return made


FAST: dict[type[nn.Module], type[Accelerated]] = {
    each.plain_class: each
    for each in (FastConv2d, FastConvTranspose2d, FastReflectionPad2d, FastInstanceNorm, FastBlurDown)
}


def is_square(layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    """Whether kernel, stride and padding are the same both ways, with neither groups nor dilation."""
    pairs = (layer.kernel_size, layer.stride, layer.padding)  # or the padding is "same" or "valid"
    same = all(pair[0] == pair[1] for pair in pairs)
    return same and layer.groups == 1 and tuple(layer.dilation) == (1, 1)


def is_convolvable(input: Tensor, layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    """Whether the fast path takes this input; what torch refuses is left to torch."""
    if not is_eager(input, layer.weight) or input.dim() != 4 or input.shape[1] != layer.in_channels:
        return False
    padding, side = int(layer.padding[0]), min(input.shape[2:])
    least = max(1, layer.kernel_size[0] - 2 * padding) if isinstance(layer, nn.Conv2d) else 1
    if layer.padding_mode == "reflect":
        least = max(least, padding + 1)
    if not len(input) or side < least:
        return False
    if torch.is_autocast_enabled("cpu"):
        fits = layer.weight.dtype == torch.float32 and input.dtype in (torch.float32, torch.bfloat16)
        return fits and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return input.dtype == layer.weight.dtype and input.dtype in (torch.float32, torch.float64)


def is_rounded(input: Tensor) -> bool:
    """Whether an input is in bf16 because autocast made it so."""
    return input.dtype == torch.bfloat16 and torch.is_autocast_enabled("cpu") and is_eager(input)


def is_eager(*tensors: Tensor) -> bool:
    """Whether these are plain CPU tensors on which torch computes at once, and nothing else must see the operations."""
    seen = (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or forward_ad._current_level >= 0
    )
    return not seen and all(x.is_cpu and type(x) in (Tensor, nn.Parameter) for x in tensors)


def reflected(images: Tensor, edges: tuple[int, ...]) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return F.pad(images, edges, "reflect")


def convolved(images: Tensor, layer: nn.Conv2d | nn.ConvTranspose2d, algorithm: Algorithm) -> Tensor:
    """With the layer's bias, unless a norm subtracts it again and nobody trains it; see `layers.before_norm`."""
    made: Any = Convolution.apply(images, layer.weight, algorithm)
    if layer.bias is None or (getattr(layer, "norm_follows", False) and not layer.bias.requires_grad):
        return made
    return made.add_(layer.bias.to(made.dtype)[:, None, None])
