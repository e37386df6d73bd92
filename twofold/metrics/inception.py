"""The Inception v3 that FID and KID are defined on, and the two ways of resizing for it.

The network is that of the TensorFlow file `inception-2015-12-05` (Szegedy et al. 2015, arXiv 1512.00567), whose last
blocks pool in another way than those of later Inceptions. Its weights come from the published PyTorch port of that
file; the modules have the names used there.
"""

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


class Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, into: int, out: int, kernel: Size, stride: int = 1, padding: Size = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def mean_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """35 × 35 (arXiv 1512.00567, figure 5)."""

    def __init__(self, into: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(into, 64, 1)
        self.branch5x5_1 = Conv(into, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Conv(into, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(into, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(mean_pool(x))], 1)


class BlockB(nn.Module):
    """35 × 35 to 17 × 17."""

    def __init__(self, into: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(into, 384, 3, stride=2)
        self.branch3x3dbl_1 = Conv(into, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class BlockC(nn.Module):
    """17 × 17 (figure 6), with `mid` channels between the factors."""

    def __init__(self, mid: int) -> None:
        super().__init__()
        across, down = (1, 7), (7, 1)
        self.branch1x1 = Conv(768, 192, 1)
        self.branch7x7_1 = Conv(768, mid, 1)
        self.branch7x7_2 = Conv(mid, mid, across, padding=(0, 3))
        self.branch7x7_3 = Conv(mid, 192, down, padding=(3, 0))
        self.branch7x7dbl_1 = Conv(768, mid, 1)
        self.branch7x7dbl_2 = Conv(mid, mid, down, padding=(3, 0))
        self.branch7x7dbl_3 = Conv(mid, mid, across, padding=(0, 3))
        self.branch7x7dbl_4 = Conv(mid, mid, down, padding=(3, 0))
        self.branch7x7dbl_5 = Conv(mid, 192, across, padding=(0, 3))
        self.branch_pool = Conv(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(mean_pool(x))], 1)


class BlockD(nn.Module):
    """17 × 17 to 8 × 8."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(768, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(768, 192, 1)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, stride=2)], 1)


class BlockE(nn.Module):
    """8 × 8 (figure 7); the last one takes a maximum where the others take a mean, as the TensorFlow file does."""

    def __init__(self, into: int, last: bool) -> None:
        super().__init__()
        self.last = last
        self.branch1x1 = Conv(into, 320, 1)
        self.branch3x3_1 = Conv(into, 384, 1)
        self.branch3x3_2a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = Conv(into, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Conv(into, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.last else mean_pool(x)
        parts = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(pooled)]
        return torch.cat(parts, 1)


class Inception(nn.Module):
    """Images (N, 3, 299, 299) in [-1, 1] to the features of the last pool, (N, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = BlockA(192, 32), BlockA(256, 64), BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b, self.Mixed_6c = BlockC(128), BlockC(160)
        self.Mixed_6d, self.Mixed_6e = BlockC(160), BlockC(192)
        self.Mixed_7a = BlockD()
        self.Mixed_7b, self.Mixed_7c = BlockE(1280, last=False), BlockE(2048, last=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))
        x = self.Mixed_6e(self.Mixed_6d(x))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((2, 3))


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
