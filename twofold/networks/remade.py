"""Normed and rectified images that are made again for the gradient rather than kept, on a CPU.

A convolution, its norm and its activation leave two sets of maps for the backward pass: the convolution's result, of which
the norm's gradient is made, and the activations, of which the next convolution's is. The second follows from the
first by a product and a sum a value, which is nothing beside a convolution; so it is dropped, and half of the
memory with it.

An image knows how it was made by an attribute, `SOURCE`: what another operation makes of it has none, and what is changed
in place afterwards has another version.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import increment_version

from twofold.networks import native
from twofold.networks.scratch import scratch

Grads = tuple[Tensor | None, Tensor | None]

SOURCE = "_twofold_source"


class Source(NamedTuple):
    """(N, C, H, W) before the norm; the mean and 1 / deviation of each channel of each image, (N, C), in float32 by kernels."""

    images: Tensor
    mean: Tensor
    scale: Tensor
    eps: float
    rectified: bool = False


def mark(images: Tensor, source: Source) -> None:
    setattr(images, SOURCE, (source, images._version))


def source_of(images: Tensor) -> Source | None:
    source, version = getattr(images, SOURCE, (None, 0))
    return None if source is None or images._version != version else source


def kernels_of(images: Tensor) -> native.Kernels | None:
    """What handles images (N, C, H, W) of this kind, unless torch must."""
    kernels = native.kernels(images.dtype, images.shape[1], tiled=False)
    return kernels if kernels and images.is_contiguous(memory_format=torch.channels_last) else None


def rows(images: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H, W, C)."""
    return images.permute(0, 2, 3, 1)


class Normed(torch.autograd.Function):
    """Each channel of each image, (N, C, H, W), to mean 0 and variance 1; with the two statistics, (N, C)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        if images.shape[2:].numel() < 2:
            raise ValueError(f"one pixel has no variance, and each image here is one: {tuple(images.shape)}")
        made = torch.empty_like(images)
        kernels = kernels_of(images)
        exact = torch.float32 if kernels else images.dtype
        mean, scale = (images.new_empty(images.shape[:2], dtype=exact) for _ in range(2))
        if kernels:
            kernels.normed(rows(images), rows(made), mean, scale, eps)
        else:
            for image, *to in zip(images.split(1), made.split(1), mean, scale, strict=True):
                torch.native_batch_norm(image, None, None, None, None, True, 0.0, eps, out=to)
        ctx.save_for_backward(images, mean, scale)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, scale)
        return made, mean, scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, mean, scale = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient of a gradient is to be taken
            again = as_written(images, ctx.eps)
            return torch.autograd.grad(again, images, gradient, create_graph=True)[0], None
        return gradient_before(gradient, images, mean, scale, ctx.eps, rectified=False), None


class Rectified(torch.autograd.Function):
    """max(0, x) in place of a normed image, whose gradient goes to the source of that image at once."""

    @staticmethod
    def forward(ctx: Any, normed: Tensor, images: Tensor, mean: Tensor, scale: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(images, mean, scale)
        ctx.eps = eps
        ctx.mark_dirty(normed)
        return rectify(normed)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, mean, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            again = as_written(images, ctx.eps).relu()
            made = torch.autograd.grad(again, images, gradient, create_graph=True)[0]
        else:
            made = gradient_before(gradient, images, mean, scale, ctx.eps, rectified=True)
        return None, made, None, None, None


def gradient_before(
    gradient: Tensor, images: Tensor, mean: Tensor, scale: Tensor, eps: float, *, rectified: bool
) -> Tensor:
    """Of the images that were normed and, if so, rectified."""
    if kernels := kernels_of(images):
        made = torch.empty_like(images)
        back = kernels.rectified_back if rectified else kernels.normed_back
        back(rows(gradient).contiguous(), rows(images), mean, scale, rows(made))
        return made
    if rectified:
        # In what the convolutions before and after it use, which by now is free.
        above = scratch("patches", rows(images).shape, images.dtype).permute(0, 3, 1, 2)
        torch.sub(images, mean[:, :, None, None], out=above)  # as positive as the normed image
        gradient = torch.ops.aten.threshold_backward(gradient, above, 0)
    each = zip(gradient.split(1), images.split(1), mean, scale, strict=True)
    made = [
        torch.ops.aten.native_batch_norm_backward(
            its, image, None, None, None, average, factor, True, eps, [True, False, False]
        )[0]
        for its, image, average, factor in each
    ]
    return made[0] if len(made) == 1 else torch.cat(made)


def as_written(images: Tensor, eps: float) -> Tensor:
    """`Normed` as its formula, in float32 at least."""
    x = images.to(torch.promote_types(images.dtype, torch.float32))
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return ((x - mean) * torch.rsqrt(variance + eps)).to(images.dtype)


def normed(images: Tensor, eps: float) -> Tensor:
    made, mean, scale = Normed.apply(images, eps)  # pyright: ignore[reportGeneralTypeIssues]
    if made.requires_grad:
        mark(made, Source(images, mean, scale, eps))
    return made


def rectified(images: Tensor) -> Tensor:
    """max(0, x), in place."""
    source = source_of(images)
    if source is None:
        return F.relu_(images)
    made = Rectified.apply(images.detach(), *source[:4])
    assert made is not None
    mark(made, source._replace(rectified=True))
    return made


def rectify(images: Tensor) -> Tensor:
    """max(0, x), in place, without a gradient."""
    if images.dtype == torch.bfloat16 and (kernels := kernels_of(images)):
        kernels.rectified(rows(images))
        increment_version(images)
        return images
    return images.relu_()


def keep(ctx: Any, images: Tensor, weight: Tensor) -> None:
    """Save for the backward pass what gives both back."""
    source = source_of(images)
    ctx.source = None if source is None else source[3:]
    ctx.save_for_backward(weight, *((images,) if source is None else source[:3]))


def kept(ctx: Any) -> tuple[Tensor, Tensor]:
    """The images and the weight that were given to `keep`."""
    weight, images, *statistics = ctx.saved_tensors
    if not statistics:
        return images, weight
    eps, rectified = ctx.source
    if torch.is_grad_enabled():  # the gradient of a gradient is to be taken, through the statistics as well
        again = as_written(images, eps)
        return F.relu(again) if rectified else again, weight
    mean, scale = (x[:, :, None, None].to(images.dtype) for x in statistics)
    again = torch.addcmul(-mean * scale, images, scale)
    return again.relu_() if rectified else again, weight


def by_library(
    ctx: Any, gradient: Tensor, images: Tensor, weight: Tensor, made: Callable[[Tensor, Tensor], Tensor]
) -> Grads:
    """The gradients of images and weight as the library has them, which can be differentiated again.

    Args:
        ctx: says which of the two are needed.
        made: gives the convolution that the gradient is of.
    """
    needed = [x for x, wanted in zip((images, weight), ctx.needs_input_grad, strict=False) if wanted]
    grads = iter(torch.autograd.grad(made(images, weight), needed, gradient, create_graph=True))
    of_images, of_weight, *_ = ctx.needs_input_grad
    return next(grads) if of_images else None, next(grads) if of_weight else None
