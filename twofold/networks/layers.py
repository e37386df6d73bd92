"""What the networks are built of: norms, convolutions, upsampling, initialisation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import init as fill
from torch.nn.utils.parametrizations import _SpectralNorm, spectral_norm  # pyright: ignore[reportPrivateUsage]
from torch.nn.utils.parametrize import is_parametrized

NormName = Literal["instance", "instance-affine", "batch", "none"]
UpsampleName = Literal["transposed", "resize", "resize-zero", "blur"]
InitName = Literal["normal", "xavier", "kaiming", "orthogonal"]

Conv = TypeVar("Conv", bound=nn.Conv2d | nn.ConvTranspose2d)

Argument = str | int | bool
"""A constructor argument of a generator, plain enough for JSON."""


class Generator(nn.Module):
    """Base of the generators: (N, in_channels, H, W) in [-1, 1] to (N, out_channels, H, W) in (-1, 1).

    Attributes:
        multiple_of: H and W must be multiples of this.
        minimum: the smallest H and W.
        per_image: no layer mixes the images of a batch, in train mode either.
        arguments: what the constructor was given, every argument by name.
    """

    multiple_of: int
    minimum: int
    per_image: bool
    arguments: dict[str, Argument]


class Discriminator(nn.Module):
    """Base of the discriminators: images (N, in_channels, H, W) to logits (N, 1, h, w), high for real.

    A `MultiDiscriminator` gives a tuple of such maps. No layer mixes the images of a batch but `BatchNorm`.

    Attributes:
        multiple_of: H and W must be multiples of this: of one, so any will do.
        minimum: the smallest H and W that give a logit.
        arguments: what the constructor was given, every argument by name.
    """

    multiple_of: int = 1
    minimum: int
    arguments: dict[str, Argument]
    convs: nn.Sequential

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.convs(images)


def arguments(given: dict[str, Any]) -> dict[str, Argument]:
    """A constructor's arguments by name, from its `locals()` before it has others."""
    return {name: value for name, value in given.items() if name not in ("self", "__class__")}


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm whose output at test time depends on one image alone.

    In train mode it is BatchNorm2d. In eval mode each image is normalised by its own mean and variance (pix2pix,
    arXiv 1611.07004, §3.4, at batch size 1), and no buffer is read or written.
    """

    parts = 1
    """Equal parts of a batch, each normalised by its own statistics in train mode; see `in_parts`."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and self.parts > 1:
            return torch.cat([super(BatchNorm, self).forward(part) for part in input.chunk(self.parts)])
        if self.training:
            return super().forward(input)
        return per_image_norm(input, self.weight, self.bias, self.eps)


@contextmanager
def in_parts(network: nn.Module, count: int) -> Iterator[None]:
    """Inside, a batch goes through batch norms as its `count` equal parts would one after the other."""
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.parts = count
    try:
        yield
    finally:
        for norm in norms:
            norm.parts = 1


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm without weights or buffers, whose gradient is right on a CPU too; see `per_image_norm`."""

    def forward(self, input: Tensor) -> Tensor:
        return per_image_norm(input, None, None, self.eps)


class AffineInstanceNorm(InstanceNorm):
    """Instance norm with a learned scale and bias of each channel, in train and eval mode."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, input: Tensor) -> Tensor:
        return per_image_norm(input, self.weight, self.bias, self.eps)


LARGE = 2**18
"""Pixels of a channels-last float32 image above which torch's batch norm is too inexact on a CPU."""


def per_image_norm(images: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise each channel of each image, (N, C, H, W), to mean 0 and variance 1: torch's instance norm.

    On a CPU this is batch norm of one image after the other. torch's instance norm computes a wrong gradient there,
    without a warning, if N = 1 and the gradient is channels-last (torch 2.13, float32 and float64). Its batch norm of
    large channels-last images adds up in float32 and is wrong by up to 0.01 at 2048². Elsewhere torch's instance norm
    would copy channels-last images to the other layout and back.

    Raises:
        ValueError: an image has one pixel, which has no variance.
    """
    if not torch.jit.is_tracing() and not torch.compiler.is_compiling():  # pyright: ignore[reportPrivateImportUsage]
        layout_kept = is_channels_last(images)
        is_large = images.dtype == torch.float32 and images.shape[2] * images.shape[3] > LARGE
        if images.is_cpu and not (layout_kept and is_large):
            normed = [
                F.batch_norm(image, None, None, weight, bias, True, 0.0, eps) for image in images.split(1)
            ]
            return normed[0] if len(normed) == 1 else torch.cat(normed)
        if layout_kept:
            return norm_in_layout(images, weight, bias, eps)
    return F.instance_norm(images, None, None, weight, bias, True, 0.0, eps)


def is_channels_last(images: Tensor) -> bool:
    """Whether (N, C, H, W) lies in memory as (N, H, W, C), and not also as (N, C, H, W)."""
    return not images.is_contiguous() and images.is_contiguous(memory_format=torch.channels_last)


def norm_in_layout(images: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """`per_image_norm` in operations that keep the memory layout and treat all images at once, in float32 at least."""
    if images.shape[2] * images.shape[3] == 1:
        raise ValueError(f"an image of one pixel has no variance: {tuple(images.shape)}")
    wide = images.to(torch.promote_types(images.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, (2, 3), correction=0, keepdim=True)
    scale = torch.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * weight[:, None, None]
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias[:, None, None]
    return torch.addcmul(shift, wide, scale).to(images.dtype)


def norm_layer(norm: NormName, channels: int) -> nn.Module:
    """The norm over (N, channels, H, W). "instance" has neither weights nor buffers, so no keys."""
    kinds: dict[NormName, type[nn.Module]] = {
        "instance": InstanceNorm,
        "instance-affine": AffineInstanceNorm,
        "batch": BatchNorm,
        "none": nn.Identity,
    }
    return kinds[norm](channels)


def has_bias(norm: NormName) -> bool:
    """Whether inner convolutions have a bias: only with instance norm, as in the original implementation."""
    return norm in ("instance", "instance-affine")


def before_norm(conv: Conv, norm: NormName) -> Conv:
    """Prepare `conv`, built with `bias=has_bias(norm)`, to stand directly before that norm; returns it.

    Instance norm subtracts any bias again: its true gradient is zero, and Adam would turn rounding errors into
    steps. The bias stays in the state dict, so that the originals' checkpoints fit, but takes no gradient. The
    attribute `norm_follows` tells `twofold.cpu` that it need not be added.
    """
    if has_bias(norm) and conv.bias is not None:
        conv.bias.requires_grad_(False)
        conv.norm_follows = True  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    return conv


def upscale(
    upsample: UpsampleName, channels: int, to: int, *, kernel: int, norm: NormName | None
) -> dict[str, nn.Module]:
    """Named layers that double height and width, from `channels` to `to`; no norm after them means a bias.

    "transposed" is a transposed convolution of that kernel size, 3 or 4, as in the originals. "resize"
    repeats each pixel and convolves 3×3, which covers every output pixel evenly and so leaves no checkerboard
    (Odena et al. 2016, "Deconvolution and Checkerboard Artifacts"). Repeating, not bilinear: they found it
    the better of the two, it costs no arithmetic, and the convolution can learn the smoothing. "resize-zero" is
    the same with zeros around the edge, as in PyTorch-GAN; "blur" is CUT's: each pixel spread by
    (1, 3, 3, 1)², which is bilinear upsampling, then a 3×3 convolution.
    """
    bias = norm is None or has_bias(norm)
    layers: dict[str, nn.Module] = {}
    if upsample == "transposed":
        conv = nn.ConvTranspose2d(channels, to, kernel, 2, padding=1, output_padding=4 - kernel, bias=bias)
    else:
        name, mode = ("blur", "bilinear") if upsample == "blur" else ("repeat", "nearest")
        layers[name] = Upsample(scale_factor=2, mode=mode)
        edge = "reflect" if upsample == "resize" else "zeros"
        conv = nn.Conv2d(channels, to, 3, padding=1, padding_mode=edge, bias=bias)
    return layers | {"conv": conv if norm is None else before_norm(conv, norm)}


class Upsample(nn.Upsample):
    """Keeps bf16 and fp16 under autocast, which would make float32 of them on CUDA, for the next convolution to round."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype not in (torch.bfloat16, torch.float16):
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input)


FILL: dict[InitName, Callable[[Tensor, float], Tensor]] = {
    "normal": lambda weight, gain: fill.normal_(weight, 0.0, gain),
    "xavier": fill.xavier_normal_,
    "kaiming": lambda weight, _: fill.kaiming_normal_(weight),
    "orthogonal": fill.orthogonal_,
}


def initialise(network: nn.Module, init: InitName = "normal", gain: float = 0.02) -> None:
    """Fill the weights in place, from torch's global generator.

    Convolutions: N(0, gain), Xavier normal with that gain, Kaiming normal over the fan in (which takes no
    gain), or orthogonal with that gain; biases 0. Norms: weights N(1, gain), biases 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            normed: Any = module.parametrizations if is_parametrized(module, "weight") else None
            FILL[init](normed.weight.original if normed else module.weight, gain)
            if module.bias is not None:
                fill.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | AffineInstanceNorm):
            fill.normal_(module.weight, 1.0, gain)
            fill.zeros_(module.bias)


def spectrally_normed(network: Discriminator) -> Discriminator:
    """`network` with every convolution's weight divided by its largest singular value (Miyato et al. 2018).

    arXiv 1802.05957, algorithm 1: one step of power iteration in each forward pass in train mode.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            spectral_norm(module)
            normed: Any = module.parametrizations
            normed.weight[0].__class__ = Float32SpectralNorm
    return network


class Float32SpectralNorm(_SpectralNorm):
    """torch's spectral norm in the weight's own precision: autocast would do the power iteration in bf16 on CUDA."""

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast("cpu" if weight.is_meta else weight.device.type, enabled=False):
            return super().forward(weight)
