"""The Inception v3 that FID and KID are defined on, and the two ways of resizing for it.

The network is that of the TensorFlow file `inception-2015-12-05` (Szegedy et al. 2015, arXiv 1512.00567), whose last
blocks pool in another way than those of later Inceptions. Its weights come from the published PyTorch port of that
file; the modules have the names used there.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twofold.errors import UsageError
from twofold.fetch import fetch

NAME = "pt_inception-2015-12-05-6726825d.pth"
ADDRESS = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{NAME}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
MEGABYTES = 96

SOURCES = (
    f"run `twofold evaluate --download-weights` ({MEGABYTES} MB), put {ADDRESS} there, or name the file with"
    " --inception"
)

SIDE = 299
"""Side in pixels of the network's input."""

Size = int | tuple[int, int]
Stage = tuple[int, Size] | tuple[int, Size, Size]
ACROSS, DOWN = (1, 7), (7, 1)


class Conv(nn.Module):
    """Convolution, batch norm, ReLU. `padding` is of nn.Conv2d: "same" or "valid"."""

    def __init__(self, into: int, out: int, kernel: Size, stride: int = 1, padding: str = "valid") -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


POOLS = {
    "mean": nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
    "max": nn.MaxPool2d(3, stride=1, padding=1),
    "half": nn.MaxPool2d(3, stride=2),
}


class Block(nn.Module):
    """Chains of convolutions and a pool side by side, joined along the channels.

    Args:
        chains: by name, (output channels, kernel) of each convolution. A chain with (channels, kernel, kernel) at its
            end gives the output of two convolutions.
        pooling: "mean", "max", or "half": then the ends of the chains halve the size as well.
        pool: channels of the convolution behind the pool; 0 with "half", which has none.
    """

    def __init__(self, into: int, chains: Mapping[str, Sequence[Stage]], pooling: str, pool: int) -> None:
        super().__init__()
        self.chains: list[list[list[str]]] = []
        self.window = POOLS[pooling]
        for name, stages in chains.items():
            width, chain = into, []
            for number, (out, *kernels) in enumerate(stages, 1):
                halve = not pool and number == len(stages)
                place = f"branch{name}_{number}" if len(stages) > 1 else f"branch{name}"
                chain.append([place + letter for letter in ("ab" if len(kernels) > 1 else [""])])
                for each, kernel in zip(chain[-1], kernels, strict=True):
                    self.add_module(each, Conv(width, out, kernel, *((2, "valid") if halve else (1, "same"))))
                width = out
            self.chains.append(chain)
        self.branch_pool = Conv(into, pool, 1) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for chain in self.chains:
            ends = [x]
            for names in chain:
                ends = [self.get_submodule(name)(ends[0]) for name in names]
            parts += ends
        return torch.cat([*parts, self.branch_pool(self.window(x))], 1)


def block_35(into: int, pool: int) -> Block:
    """35 × 35 pixels (arXiv 1512.00567, figure 5)."""
    chains = {"1x1": [(64, 1)], "5x5": [(48, 1), (64, 5)], "3x3dbl": [(64, 1), (96, 3), (96, 3)]}
    return Block(into, chains, "mean", pool)


def block_17(mid: int) -> Block:
    """17 × 17 (figure 6), with `mid` channels between the factors."""
    seven = [(mid, 1), (mid, ACROSS), (192, DOWN)]
    double = [(mid, 1), (mid, DOWN), (mid, ACROSS), (mid, DOWN), (192, ACROSS)]
    return Block(768, {"1x1": [(192, 1)], "7x7": seven, "7x7dbl": double}, "mean", 192)


def block_8(into: int, pooling: str) -> Block:
    """8 × 8 (figure 7)."""
    fork = (384, (1, 3), (3, 1))
    chains = {"1x1": [(320, 1)], "3x3": [(384, 1), fork], "3x3dbl": [(448, 1), (384, 3), fork]}
    return Block(into, chains, pooling, 192)


def layers() -> dict[str, nn.Module]:
    """All layers before the last pool, by their names in the published file; pools have no weights."""
    seven = [(192, 1), (192, ACROSS), (192, DOWN), (192, 3)]
    return {
        "Conv2d_1a_3x3": Conv(3, 32, 3, stride=2),
        "Conv2d_2a_3x3": Conv(32, 32, 3),
        "Conv2d_2b_3x3": Conv(32, 64, 3, padding="same"),
        "pool_1": nn.MaxPool2d(3, stride=2),
        "Conv2d_3b_1x1": Conv(64, 80, 1),
        "Conv2d_4a_3x3": Conv(80, 192, 3),
        "pool_2": nn.MaxPool2d(3, stride=2),
        "Mixed_5b": block_35(192, pool=32),
        "Mixed_5c": block_35(256, pool=64),
        "Mixed_5d": block_35(288, pool=64),
        "Mixed_6a": Block(288, {"3x3": [(384, 3)], "3x3dbl": [(64, 1), (96, 3), (96, 3)]}, "half", 0),
        "Mixed_6b": block_17(128),
        "Mixed_6c": block_17(160),
        "Mixed_6d": block_17(160),
        "Mixed_6e": block_17(192),
        "Mixed_7a": Block(768, {"3x3": [(192, 1), (320, 3)], "7x7x3": seven}, "half", 0),
        "Mixed_7b": block_8(1280, "mean"),
        "Mixed_7c": block_8(2048, "max"),  # as the TensorFlow file has it
    }


class Inception(nn.Sequential):
    """Images (N, 3, 299, 299) in [-1, 1] to the features of the last pool, (N, 2048)."""

    def __init__(self) -> None:
        super().__init__(OrderedDict(layers()))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).mean((2, 3))


def load(path: Path) -> Inception:
    """The network with the weights in a file, in eval mode.

    Raises:
        UsageError: there is no such file, or it holds other weights.
    """
    if not path.is_file():
        raise UsageError(f"FID and KID need Inception's weights, which are not at {path}: {SOURCES}")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        weights = {name: w for name, w in weights.items() if not name.startswith("fc.")}
        with torch.device("meta"):
            network = Inception()
        counters = {name for name in network.state_dict() if name.endswith("num_batches_tracked")}
        network.load_state_dict({name: torch.tensor(0) for name in counters} | weights, assign=True)
    except Exception as error:  # torch raises nearly anything on a foreign file
        raise UsageError(f"{path} does not hold the weights of FID's Inception: {SOURCES}") from error
    return network.requires_grad_(False).eval()


def download(path: Path, address: str = ADDRESS, sha256: str = SHA256) -> None:
    """Fetch the published weights to `path`, which appears only if their checksum is right.

    Raises:
        TwofoldError: there is no connection, or another file came.
    """
    fetch([address], path, advice=f"put that file at {path}", sha256=sha256)


def tensorflow_resize(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) as FID's network got them, (N, 3, 299, 299) in [-1, 1].

    The bilinear resize of TensorFlow 1: no antialias, and pixel i of the result reads from i · H / 299, so the last
    ones read from beyond the edge, which repeats.
    """
    return (stretched(stretched(images.to(torch.float32), 2), 3) - 128) / 128


def stretched(pixels: Tensor, axis: int) -> Tensor:
    length = pixels.shape[axis]
    places = torch.arange(SIDE, device=pixels.device, dtype=torch.float32) * (length / SIDE)
    first = places.long().clamp(max=length - 1)
    second = (first + 1).clamp(max=length - 1)
    share = (places - first).unflatten(0, (SIDE, 1) if axis == 2 else (1, SIDE))
    low, high = (pixels.index_select(axis, index) for index in (first, second))
    return low + (high - low) * share


def clean_resize(images: Tensor) -> Tensor:
    """The same with clean-fid's resize: bicubic with antialias (Parmar et al. 2022, arXiv 2104.11222), clipped."""
    resized = F.interpolate(images.to(torch.float32), (SIDE, SIDE), mode="bicubic", antialias=True)
    return (resized.clamp(0, 255) - 128) / 128
