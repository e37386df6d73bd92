"""Checkpoints that the original's test.py loads."""

import pytest
import torch

from twofold.exchange.checkpoint import Choices, import_file
from twofold.exchange.export import how_to_use, save_original
from twofold.formats.contract import Contract
from twofold.formats.scale import Geometry
from twofold.networks.registry import describe
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.unet import UnetGenerator
from twofold.translation.header import Header
from twofold.translation.model_file import save


@pytest.mark.parametrize(
    "network",
    [
        ResnetGenerator(width=2, blocks=2),
        ResnetGenerator(width=2, blocks=1, norm="batch", dropout=True),
        ResnetGenerator(width=2, blocks=1, upsample="blur", antialias=True),
        UnetGenerator(width=1, depth=5, dropout=True),
    ],
)
def test_export_then_import_gives_the_same_bytes(tmp_path, network):
    paths = [tmp_path / name for name in ("latest_net_G_A.pth", "again.pth")]
    save_original(network, paths[0])
    found = import_file(paths[0], choices=Choices(dropout=True)).generator
    save_original(found, paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    header = Header(describe(network), "ab")
    for generator, name in ((network, "x"), (found, "y")):
        save(generator, header, tmp_path / name)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    assert torch.load(paths[0], weights_only=True).keys() == torch.load(paths[1], weights_only=True).keys()


def lines(network, **options):
    header = Header(describe(network), "ab", **options)
    return list(how_to_use(header))


def test_the_command_of_the_original():
    (line,) = lines(ResnetGenerator(width=2), size=256)
    assert line.endswith(
        "python test.py --dataroot IMAGES --name NAME --model test --netG resnet_9blocks --norm instance --no_dropout "
        "--ngf 2 --load_size 256 --crop_size 256"
    )
    (line,) = lines(UnetGenerator(1, 1, width=64, depth=7, dropout=True))
    assert "--netG unet_128 --norm batch --input_nc 1 --output_nc 1 --preprocess none" in line
    (line,) = lines(ResnetGenerator(blocks=6, upsample="blur", antialias=True))
    assert "CUT's checkpoints" in line
    assert "--model cut --netG resnet_6blocks --normG instance --preprocess none" in line
    first, _ = lines(ResnetGenerator(blocks=4))
    assert "n_blocks=4" in first


def test_what_the_original_cannot_read_is_said():
    network = ResnetGenerator(4, 1, blocks=9)
    deep = Header.of(
        describe(network),
        "ab",
        Contract("uint16", 4, (0.0,), (4095.0,), "bits"),
        Contract(channels=1),
        Geometry("shortest", 286, 256),
    )
    command, note = how_to_use(deep)
    assert "first scale the shorter side of your images to 286 px" in command
    assert note.startswith("This model takes uint16, 4 channels") and "8-bit" in note
