"""A generator with all that another program would have to add: padding, cropping, and the values that files store."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from twofold.errors import UsageError
from twofold.formats.contract import Contract
from twofold.formats.values import to_levels, to_network
from twofold.networks.layers import Generator
from twofold.translation.header import Header

STORABLE = ("uint8", "int8", "uint16", "int16", "float16", "float32")
"""Types whose every value float32 holds."""


class Portable(nn.Module):
    """Images of any size to translations of that size, at the scale of the network.

    Args:
        stored: False: (N, C, H, W) in [-1, 1], in and out. True: (N, H, W, C) of stored values, as float32, in and out.
        padded: whether to mirror images at their lower and right edge up to a size that the network takes, and to crop
            the translation. False: the caller gives such sizes.
    """

    def __init__(self, generator: Generator, header: Header, *, stored: bool, padded: bool) -> None:
        super().__init__()
        self.generator, self.stored, self.padded = generator, stored, padded
        self.source, self.target = header.source_contract, header.target_contract
        self.multiple_of, self.minimum = generator.multiple_of, generator.minimum
        if stored:
            check_storable(header)
            self.classes = class_table(self.source)

    def forward(self, images: Tensor) -> Tensor:
        planes = self.to_planes(images) if self.stored else images
        translated = self.at_any_size(planes) if self.padded else self.generator(planes)
        return to_levels(translated, self.target).permute(0, 2, 3, 1) if self.stored else translated

    def at_any_size(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        rows = mirrored(images, 2, self.multiple_of, self.minimum)
        translated = self.generator(mirrored(rows, 3, self.multiple_of, self.minimum))
        return first(first(translated, 2, height), 3, width)

    def to_planes(self, images: Tensor) -> Tensor:
        """(N, H, W, C) of stored values to what the network takes."""
        if self.classes is None:
            return to_network(images.permute(0, 3, 1, 2), self.source)
        return self.classes[self.place_of_class(images)].permute(0, 3, 1, 2)

    def place_of_class(self, images: Tensor) -> Tensor:
        """The row of `classes` for each pixel, (N, H, W)."""
        assert self.source.labels is not None and self.classes is not None
        if ids := self.source.labels.ids:
            return (images[..., 0].long() - ids[0]).clamp(0, len(self.classes) - 1)
        colours = torch.tensor(self.source.labels.values, dtype=torch.float32)
        return (colours.square().sum(1) - images @ (2 * colours.T)).argmin(3)  # nearest by |c|² - 2 p·c


def mirrored(images: Tensor, axis: int, multiple_of: int, minimum: int) -> Tensor:
    """Continue images as often as needed by their mirror image, as numpy's "symmetric" padding does."""
    size = images.shape[axis]
    wanted = (size + multiple_of - 1) // multiple_of * multiple_of
    # In a trace to ONNX sizes are tensors, in torch.export symbols.
    wanted = wanted.clamp(min=minimum) if isinstance(wanted, Tensor) else torch.sym_max(wanted, minimum)
    place = torch.arange(wanted, device=images.device) % (2 * size)
    return images.index_select(axis, torch.minimum(place, 2 * size - 1 - place))


def first(images: Tensor, axis: int, size: int) -> Tensor:
    """The first `size` rows or columns. A slice would make torch.export refuse sizes that need no cropping."""
    return images.index_select(axis, torch.arange(size, device=images.device))


def class_table(source: Contract) -> Tensor | None:
    """What the network takes for a class, (rows, channels): a row for each id from the first class to the last, or for
    each colour of one-hot labels; None for other images, and for colours that the network takes as they are."""
    labels = source.labels
    if labels is None or not (labels.ids or labels.onehot):
        return None
    every = (
        torch.arange(labels.ids[0], labels.ids[-1] + 1)[None] if labels.ids else torch.tensor(labels.values).T
    )
    return to_network(every[:, None], replace(source, dtype="int32"))[:, 0].T.contiguous()  # of (C, 1, rows)


def check_storable(header: Header) -> None:
    """Refuse a model whose stored values a graph cannot take or give.

    Raises:
        UsageError: names the reason.
    """
    if header.lab:
        raise UsageError(
            "this model works in Lab, to which the graph does not convert; export it with --io float"
        )
    if header.target_contract.is_labels:
        raise UsageError(
            "this model makes label maps, which --io uint8 cannot give; export it with --io float"
        )
    for contract in (header.source_contract, header.target_contract):
        if contract.dtype not in STORABLE:
            raise UsageError(
                f"--io uint8 is for {', '.join(STORABLE)}, not for {contract.dtype} images; export it with --io float"
            )
