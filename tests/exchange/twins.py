"""Plain torch modules of the layouts that other projects' generators have, written for the tests."""

from functools import partial

import torch
from torch import nn

NORMS = {
    "instance": nn.InstanceNorm2d,
    "affine": partial(nn.InstanceNorm2d, affine=True),
    "batch": nn.BatchNorm2d,
}


class Block(nn.Module):
    def __init__(self, channels, norm, *, inside="conv_block", dropout=False, bias=True):
        super().__init__()

        def half():
            return [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), NORMS[norm](channels)]

        layers = [*half(), nn.ReLU(), *[nn.Dropout(0.5)] * dropout, *half()]
        self.inside = inside
        self.add_module(inside, nn.Sequential(*layers))

    def forward(self, x):
        return x + getattr(self, self.inside)(x)


class Blur(nn.Module):
    """CUT's Downsample and Upsample: a constant kernel in the buffer `filt`."""

    def __init__(self, channels, *, up):
        super().__init__()
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4 if up else torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("filt", torch.outer(line, line)[None, None].repeat(channels, 1, 1, 1))
        self.up = up

    def forward(self, x):
        if not self.up:
            padded = nn.functional.pad(x, (1, 1, 1, 1), "reflect")
            return nn.functional.conv2d(padded, self.filt, stride=2, groups=x.shape[1])
        padded = nn.functional.pad(x, (1, 1, 1, 1), "replicate")
        grown = nn.functional.conv_transpose2d(padded, self.filt, stride=2, padding=2, groups=x.shape[1])
        return grown[:, :, 1:-1, 1:-1]


class Resnet(nn.Module):
    def __init__(
        self, *, width=4, blocks=2, halvings=2, norm="instance", bias=True, up="transposed", **block
    ):
        super().__init__()
        layers, c = (
            [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7, bias=bias), NORMS[norm](width), nn.ReLU()],
            width,
        )
        cut = up == "blur"
        for _ in range(halvings):
            layers += [
                nn.Conv2d(c, 2 * c, 3, stride=1 if cut else 2, padding=1, bias=bias),
                NORMS[norm](2 * c),
            ]
            c *= 2
            layers += [nn.ReLU(), *([Blur(c, up=False)] if cut else [])]
        layers += [Block(c, norm, bias=bias, **block) for _ in range(blocks)]
        for _ in range(halvings):
            if up == "transposed":
                layers.append(nn.ConvTranspose2d(c, c // 2, 3, 2, padding=1, output_padding=1, bias=bias))
            else:
                layers += [Blur(c, up=True) if cut else nn.Upsample(scale_factor=2)]
                layers.append(nn.Conv2d(c, c // 2, 3, padding=1, bias=bias))
            c //= 2
            layers += [NORMS[norm](c), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(c, 3, 7), nn.Tanh())

    def forward(self, x):
        return self.model(x)


class Level(nn.Module):
    """A level of the original's U-Net, around the next."""

    def __init__(self, outer, inner, inside, norm, bias, *, outermost=False, channels=3, dropout=False):
        super().__init__()
        self.outermost = outermost
        down = nn.Conv2d(channels if outermost else outer, inner, 4, 2, 1, bias=bias)
        to = channels if outermost else outer
        up = nn.ConvTranspose2d(inner * (2 if inside else 1), to, 4, 2, 1, bias=bias or outermost)
        if outermost:
            layers = [down, inside, nn.ReLU(), up, nn.Tanh()]
        elif inside is None:
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, NORMS[norm](outer)]
        else:
            layers = [nn.LeakyReLU(0.2), down, NORMS[norm](inner), inside, nn.ReLU(), up, NORMS[norm](outer)]
            layers += [nn.Dropout(0.5)] * dropout
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class Unet(nn.Module):
    def __init__(self, *, depth=5, width=2, norm="batch", dropout=False):
        super().__init__()
        bias = norm != "batch"
        widths = [width * min(2**level, 8) for level in range(depth)]
        inside = None
        for level in range(depth - 1, 0, -1):
            drops = dropout and 4 <= level < depth - 1
            inside = Level(widths[level - 1], widths[level], inside, norm, bias, dropout=drops)
        self.model = Level(3, width, inside, norm, bias, outermost=True)

    def forward(self, x):
        return self.model(x)
