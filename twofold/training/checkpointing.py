"""Residual blocks that are computed twice to save memory."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from twofold.networks.resnet import ResidualBlock


class CheckpointedBlock(ResidualBlock):
    """Keeps its input alone for the gradient, and computes its values again when the gradient needs them."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return super().forward(x)
        # The state of a GPU's generator cannot be read while a graph is recorded; only dropout needs it again.
        draws = isinstance(self.dropout, nn.Dropout)
        return checkpoint(super().forward, x, use_reentrant=False, preserve_rng_state=draws)


def checkpoint_blocks(network: nn.Module) -> None:
    """Checkpoint the residual blocks of a network in place: less memory, the same numbers, the same state dict.

    Blocks with batch norm are left as they are, for they would count their statistics twice.
    """
    for block in network.modules():
        if type(block) is ResidualBlock and not isinstance(block.norm1, nn.BatchNorm2d):
            block.__class__ = CheckpointedBlock
