"""Recognise the network of a state dict by its keys, and bring its keys and weights to the original's."""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from twofold.errors import TwofoldError

Kind = Literal["resnet", "unet"]

BLOCK = re.compile(r"(model\.\d{1,6})\.[A-Za-z]\w*\.(?=\d+\.)")
"""The start of a key in a residual block; the original calls its layers `conv_block`, PyTorch-GAN `block`."""

ABSENT = ", which twofold does not have; import a ResNet or U-Net generator"

OTHERS = {
    r"mlp_\d+\.\d": "the projection head of CUT (net_F); import the generator beside it, *_net_G.pth",
    r"model\d+_1\.\d": "the local enhancer of pix2pixHD, which twofold does not have; import one trained with --netG global",
    r"model\.\d+\.conv_block\.\d+\.conv\.": "a generator with the separable blocks of GAN compression;"
    " import the full generator that it was made from",
    r"(mapping|synthesis|style)\.|((de|en)coder\.)?convs\.\d+\.(\d+|conv)\.": f"a StyleGAN2 network{ABSENT}",
    r"(.+\.)?(down_blocks|mid_block|up_blocks|time_embed(ding)?|diffusion_model|input_blocks)\.|.*lora_": "a"
    f" diffusion model or a part of one{ABSENT}",
    r"down1\.model\.0\.": "the U-Net of PyTorch-GAN's pix2pix, which twofold does not have; import a U-Net of the original",
    r"up_0\.norm_0|head_0\.": f"the generator of SPADE{ABSENT}",
    r"enc_content\.|enc_style\.": f"the generator of MUNIT{ABSENT}",
    r"DownBlock\.|UpBlock\d?": f"the generator of U-GAT-IT{ABSENT}",
    r"layer1\.0\.conv1\.|features\.0\.": "a classifier; import a generator, named *_net_G*.pth",
    r"exp_avg|momentum_buffer|square_avg": "the state of an optimizer; import the generator, named *_net_G*.pth",
    r"(model|net|(scale\d_)?layer\d)\.0\.|scale\d_layer": "a discriminator (net_D); import the generator, named *_net_G*.pth",
}
"""The start of a key to what holds it, for networks that are no generators of twofold."""

PARAMETRIZED = {
    ".parametrizations.weight.original": ".weight_orig",
    ".parametrizations.weight.0._u": ".weight_u",
    ".parametrizations.weight.0._v": ".weight_v",
}
"""The ends of the keys of spectral norm as torch names them now, each with its older name."""


def kind_of(names: Iterable[str]) -> Kind | None:
    """Which of twofold's generators these keys belong to; None if they belong to none."""
    keys = {older_name(name).removesuffix("_orig") for name in names}
    if other_of(keys, discriminators=False):
        return None
    if "model.model.0.weight" in keys and any(key.startswith("model.model.1.model.") for key in keys):
        return "unet"
    blocks = any(BLOCK.match(key) and key.endswith(".1.weight") for key in keys)
    return "resnet" if "model.1.weight" in keys and blocks else None


def other_of(keys: Iterable[str], *, discriminators: bool = True) -> str | None:
    """What the keys belong to, and what to import instead; None if they are unknown."""
    keys = list(keys)
    for start, name in OTHERS.items():
        if not discriminators and name.startswith("a discriminator"):
            continue
        if any(re.match(start, key) for key in keys):
            return name
    return None


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The state dict of a generator under the original's keys, with plain weights; None if it is no generator.

    Raises:
        TwofoldError: spectral norm has vectors that do not fit the weight.
    """
    for prefix in ("", "model."):
        named = {prefix + name: tensor for name, tensor in state.items()}
        if kind := kind_of(named):
            weights = plain_weights(named)
            if kind == "resnet":
                weights = {BLOCK.sub(r"\1.conv_block.", name): each for name, each in weights.items()}
            return without_old_statistics(weights)
    return None


def without_old_statistics(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the statistics that InstanceNorm had before PyTorch 0.4."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return {
        name: tensor
        for name, tensor in state.items()
        if not name.endswith(statistics) or f"{name.rpartition('.')[0]}.weight" in state
    }


# ---- spectral norm


def plain_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with spectral norm computed into the weights, as in eval mode."""
    state = {older_name(name): tensor for name, tensor in state.items()}
    weights: dict[str, Tensor] = {}
    for name, tensor in state.items():
        layer, _, entry = name.rpartition(".")
        u, v = (state.get(f"{layer}.weight_{part}") for part in "uv")
        try:
            if entry == "weight_orig" and u is not None:
                weights[f"{layer}.weight"] = spectrally_normed(tensor, u, v, is_transposed(layer))
            elif entry not in ("weight_u", "weight_v"):
                weights[name] = tensor
        except (RuntimeError, ValueError, IndexError) as error:  # a shape is wrong
            raise TwofoldError(f"the norm of {layer:.60} does not fit it; copy the file again") from error
    return weights


def older_name(name: str) -> str:
    start, mark, _ = name.partition(".parametrizations.")
    return start + PARAMETRIZED.get(name.removeprefix(start), name.removeprefix(start)) if mark else name


def spectrally_normed(weight: Tensor, u: Tensor, v: Tensor | None, transposed: bool) -> Tensor:
    """`weight` / σ, with σ = uᵀWv (Miyato et al. 2018, arXiv 1802.05957, algorithm 1).

    Torch's rows of W are the output channels: the second dimension of a transposed convolution's weight.
    """
    rows = int(transposed) if weight.shape[0] == weight.shape[1] else weight.shape.index(u.numel())
    matrix = weight.float().movedim(rows, 0).flatten(1)
    u = u.float().flatten()
    if v is None:  # torch 0.4 did not keep it
        v = torch.nn.functional.normalize(matrix.T @ u, dim=0)
        u = torch.nn.functional.normalize(matrix @ v, dim=0)
    sigma = torch.dot(u, matrix @ v.float().flatten())
    if not torch.isfinite(1 / sigma):
        raise ValueError("no singular value")
    return weight.float() / sigma


def is_transposed(layer: str) -> bool:
    """Whether this is the key of a transposed convolution with as many inputs as outputs: in the original's U-Net."""
    return layer.startswith("model.model.") and layer.endswith((".3", ".5"))


def remarks(state: Mapping[str, Tensor]) -> list[str]:
    """What the import changes in the weights, each a sentence."""
    found = []
    names = {older_name(name).rpartition(".")[2] for name in state}
    if "weight_orig" in names:
        found.append("The spectral norm is computed into the weights.")
    halves = {str(each.dtype).removeprefix("torch.") for each in state.values() if each.is_floating_point()}
    if others := sorted(halves - {"float32"}):
        found.append(f"The weights are {' and '.join(others)} in the file and become float32.")
    return found
