"""The last layer of a generator in float32 under autocast: bf16 has 1,278 levels in [-1, 1], a 12-bit image 4,096."""

import torch
from torch import Tensor, nn

from twofold.losses.penalties import full_precision
from twofold.networks.layers import Generator


class InFloat32(nn.Module):
    """Makes the layer behind it in the order of bases compute in float32 at least, whatever autocast says."""

    def forward(self, input: Tensor) -> Tensor:
        with full_precision(input.device):
            return super().forward(input.to(torch.promote_types(input.dtype, torch.float32)))  # pyright: ignore[reportAttributeAccessIssue]


class Float32Conv2d(InFloat32, nn.Conv2d):
    pass


class Float32ConvTranspose2d(InFloat32, nn.ConvTranspose2d):  # pyright: ignore[reportIncompatibleMethodOverride]
    pass


FLOAT32: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: Float32Conv2d,
    nn.ConvTranspose2d: Float32ConvTranspose2d,
}


def keep_last_layer_float32(network: Generator) -> None:
    """Let the last convolution compute in float32 under autocast too, in place; tanh and losses then follow its type.

    Weights, their names and results without autocast stay as they are. `cpu.accelerate` leaves the layer alone.
    """
    last = [module for module in network.modules() if type(module) in FLOAT32][-1]
    last.__class__ = FLOAT32[type(last)]
