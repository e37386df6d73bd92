"""CUT's patch loss: a translated patch should match the source patch of its place, and no other (arXiv 2007.15651)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twofold.losses.penalties import full_precision


class PatchHeads(nn.Module):
    """CUT's two-layer networks H_l, one for each feature map, from sampled places to unit vectors (§3).

    Args:
        channels: of each feature map.
        width: of the hidden layer and of the vectors.
    """

    def __init__(self, channels: list[int], width: int = 256) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(each, width), nn.ReLU(), nn.Linear(width, width)) for each in channels
        )

    def forward(self, features: list[Tensor], places: list[Tensor]) -> list[Tensor]:
        """Vectors (N, P, width) for feature maps (N, C, H, W) at `places`, (P,) each, row-major in H×W."""
        vectors = []
        for head, feature, at in zip(self.heads, features, places, strict=True):
            patches = feature.permute(0, 2, 3, 1).flatten(1, 2)[:, at]  # (N, P, C)
            vectors.append(unit(head(patches)))
        return vectors


def unit(vectors: Tensor) -> Tensor:
    """Vectors scaled to length 1 along the last dimension, in float32 at least."""
    vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    return vectors / (vectors.norm(dim=-1, keepdim=True) + 1e-7)


def patch_contrast(queries: Tensor, keys: Tensor, temperature: float = 0.07) -> Tensor:
    """The cross-entropy of choosing each query's key among the keys of its image: equations 3 and 4 for one layer.

    The other places of the image are the negatives.

    Args:
        queries, keys: unit vectors (N, P, K) of the translation and of its source; keys give no gradient.
    """
    with full_precision(queries.device):  # in bf16, products over the temperature are off by a twentieth
        similar = queries @ keys.detach().transpose(1, 2) / temperature  # (N, P, P)
    own = torch.arange(similar.shape[1], device=similar.device).repeat(len(similar))
    return F.cross_entropy(similar.flatten(0, 1), own)
