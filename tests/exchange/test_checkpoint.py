"""Checkpoints as people have them, each saved by the test: what is imported, and what is said."""

import hashlib
import pickle

import pytest
import torch
from safetensors.torch import save_file

from twofold.errors import TwofoldError, UsageError
from twofold.exchange.checkpoint import Choices, import_file
from twofold.networks.registry import describe

from .twins import Resnet, Unet


@pytest.fixture(scope="module")
def base():
    torch.manual_seed(0)
    return Resnet(width=8, blocks=9).state_dict()


def imports(tmp_path, content, name="net.pth", direction=None, **choices):
    path = tmp_path / name
    torch.save(content, path)
    return import_file(path, direction, Choices(**choices))


def names(base, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in base.items()}


def test_every_wrapping_gives_the_same_network(tmp_path, base):
    lightning = {
        "state_dict": names(base, "G_AB.") | names(base, "G_BA."),
        "pytorch-lightning_version": "2.0",
    }
    expected = imports(tmp_path, base).generator
    for content, options, direction in (
        ({"state_dict": base, "epoch": 200}, {}, "ab"),
        ({"netG_A2B": base, "netG_B2A": Resnet().state_dict()}, {"direction": "ab"}, "ab"),
        ({"netG_A2B": Resnet().state_dict(), "netG_B2A": base}, {"key": "netG_B2A"}, "ba"),
        ({"netG_A2B": Resnet().state_dict(), "netG_B2A": base}, {"key": "netG_B2A", "direction": "ab"}, "ab"),
        (lightning, {"direction": "ba"}, "ba"),
        (names(base, "module._orig_mod."), {}, "ab"),
        (names(base, "netG."), {"direction": "ba"}, "ba"),
    ):
        found = imports(tmp_path, content, **options)
        assert found.header.direction == direction
        assert found.header.network == describe(expected)
        for ours, theirs in zip(found.generator.parameters(), expected.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_the_header_tells_the_file(tmp_path, base):
    found = imports(tmp_path, base, size=256, direction="ab")
    digest = hashlib.blake2b((tmp_path / "net.pth").read_bytes(), digest_size=16).hexdigest()
    assert found.header.origin == {"imported": "net.pth", "blake2b": digest}
    assert (found.header.size, found.header.noise, found.notes) == (256, False, [])
    for size in (0, 2**20):
        with pytest.raises(UsageError, match="--size must be 1 to"):
            imports(tmp_path, base, size=size)


def test_other_layouts(tmp_path):
    for twin, said in {
        Resnet(norm="affine"): {"norm": "instance-affine", "upsample": "transposed"},
        Resnet(halvings=4, blocks=9): {"halvings": 4, "blocks": 9},
        Resnet(up="resize", inside="block"): {"upsample": "resize-zero"},
        Resnet(dropout=True): {"dropout": True},
    }.items():
        found = imports(tmp_path, twin.state_dict())
        assert said.items() <= found.header.network.items()
        assert found.header.noise == bool(said.get("dropout"))


def test_notes_say_what_was_assumed(tmp_path):
    unet = Unet().half().state_dict()
    for dropout, noise in ((None, False), (True, True), (False, False)):
        found = imports(tmp_path, {"netG": unet}, dropout=dropout)
        assert found.header.noise == noise
        text = " ".join(found.notes)
        assert "those of netG in the file" in text and "float16 in the file and become float32" in text
        assert ("--dropout" in text) == (dropout is None)
    assert "as in PyTorch-GAN" in imports(tmp_path, Resnet(up="resize", inside="block").state_dict()).notes[0]


def test_whole_modules_objects_and_safetensors(tmp_path, base):
    twin = Resnet(width=8, blocks=9)
    twin.load_state_dict(base)
    save_file(base, tmp_path / "net.safetensors")
    found = [
        imports(tmp_path, twin, "whole.pth"),
        imports(tmp_path, {"args": pickle.PickleBuffer, "netG": torch.nn.DataParallel(twin)}, "parallel.pth"),
        import_file(tmp_path / "net.safetensors"),
    ]
    for each in found:
        assert torch.equal(each.generator.enter.conv.weight, base["model.1.weight"])


def test_weights_of_a_diverged_training_are_refused(tmp_path, base):
    for wrong in (float("nan"), float("inf")):
        broken = base | {"model.1.bias": torch.full_like(base["model.1.bias"], wrong)}
        with pytest.raises(
            TwofoldError, match=r"net\.pth: model\.1\.bias is not finite: the training diverged"
        ):
            imports(tmp_path, broken)


def test_refusals_name_the_file(tmp_path):
    head = {"mlp_0.0.weight": torch.zeros(256, 3), "mlp_0.0.bias": torch.zeros(256)}
    with pytest.raises(
        TwofoldError, match=r"net\.pth: the file holds the projection head of CUT \(net_F\); import"
    ):
        imports(tmp_path, head)
    with pytest.raises(UsageError, match=r"net\.pth: the file holds 2 generators: netG_A2B"):
        imports(tmp_path, {f"netG_{way}": Resnet().state_dict() for way in ("A2B", "B2A")})
    with pytest.raises(UsageError, match="no file"):
        import_file(tmp_path / "none.pth")
