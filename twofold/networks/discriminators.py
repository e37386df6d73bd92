"""The critics: PatchGAN, PixelGAN, ImageGAN (pix2pix, arXiv 1611.07004, §3.3 and appendix 6.1.2)."""

from torch import Tensor, nn

from twofold.networks.layers import Discriminator, NormName, before_norm, has_bias, norm_layer


class PatchDiscriminator(Discriminator):
    """A logit for each patch of the image: 70×70 with three layers, 16×16 with one, 34×34 with two.

    Args:
        in_channels: of the images, or of image and condition together.
        width: channels after the first convolution; each layer doubles them, up to eight times as many.
        layers: stride-2 convolutions, at least 1; two of stride 1 follow them.
        norm: after every convolution but the first and the last.
    """

    def __init__(
        self, in_channels: int = 3, width: int = 64, layers: int = 3, norm: NormName = "instance"
    ) -> None:
        super().__init__()
        self.arguments = {"in_channels": in_channels, "width": width, "layers": layers, "norm": norm}
        self.minimum = 3 * 2**layers  # each of the two last convolutions takes one from the side
        self.per_image = norm != "batch"
        levels = [width * min(2**level, 8) for level in range(layers + 1)]
        self.convs = nn.Sequential(
            nn.Conv2d(in_channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        )
        for level in range(1, layers + 1):
            stride = 2 if level < layers else 1
            self.convs.extend(stage(levels[level - 1], levels[level], stride, norm))
        self.convs.append(nn.Conv2d(levels[-1], 1, 4, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        return self.convs(images)


class ImageDiscriminator(PatchDiscriminator):
    """One logit for the whole image, (N, 1, 1, 1): the mean over patches of 286×286, five layers deep."""

    def __init__(self, in_channels: int = 3, width: int = 64, norm: NormName = "instance") -> None:
        super().__init__(in_channels, width, layers=5, norm=norm)
        self.arguments = {"in_channels": in_channels, "width": width, "norm": norm}

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).mean((2, 3), keepdim=True)


class PixelDiscriminator(Discriminator):
    """A logit for each pixel, (N, 1, H, W), from 1×1 convolutions: it judges colours alone.

    Args:
        in_channels: of the images, or of image and condition together.
        width: channels after the first convolution; twice as many after the second.
        norm: after the second convolution.
    """

    def __init__(self, in_channels: int = 3, width: int = 64, norm: NormName = "instance") -> None:
        super().__init__()
        self.arguments = {"in_channels": in_channels, "width": width, "norm": norm}
        self.minimum = 1 if norm == "none" else 2  # one pixel has no variance
        self.per_image = norm != "batch"
        self.convs = nn.Sequential(
            nn.Conv2d(in_channels, width, 1),
            nn.LeakyReLU(0.2, inplace=True),
            before_norm(nn.Conv2d(width, 2 * width, 1, bias=has_bias(norm)), norm),
            norm_layer(norm, 2 * width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * width, 1, 1, bias=has_bias(norm)),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.convs(images)


def stage(channels: int, to: int, stride: int, norm: NormName) -> list[nn.Module]:
    conv = nn.Conv2d(channels, to, 4, stride=stride, padding=1, bias=has_bias(norm))
    return [before_norm(conv, norm), norm_layer(norm, to), nn.LeakyReLU(0.2, inplace=True)]
