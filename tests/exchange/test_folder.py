"""Checkpoint folders: which files, which direction, and what the options file fills in."""

import shutil

import pytest
import torch

import twofold
from twofold.errors import TwofoldError, UsageError
from twofold.exchange.checkpoint import Choices, import_file
from twofold.exchange.folder import find_generators, parse_name
from twofold.exchange.load import is_foreign, load, open_generator
from twofold.exchange.original import to_original
from twofold.formats.scale import Geometry
from twofold.networks.registry import describe
from twofold.networks.resnet import ResnetGenerator
from twofold.networks.unet import UnetGenerator
from twofold.translation.header import Header
from twofold.translation.model_file import save

OPTIONS = {
    "crop_size": 64,
    "direction": "AtoB",
    "no_dropout": True,
    "norm": "instance",
    "preprocess": "resize_and_crop",
}


def write_options(folder, **values):
    lines = [f"{name:>25}: {value!s:<30}" for name, value in (OPTIONS | values).items()]
    (folder / "train_opt.txt").write_text("---- Options ----\n" + "\n".join(lines) + "\n---- End ----\n")


@pytest.fixture
def maps(tmp_path):
    """A folder as the original leaves it after a CycleGAN."""
    folder = tmp_path / "maps_cyclegan"
    folder.mkdir()
    for seed, name in enumerate(
        ("latest_net_G_A", "latest_net_G_B", "5_net_G_A", "5_net_G_B", "200_net_G_A")
    ):
        torch.manual_seed(seed)
        torch.save(to_original(ResnetGenerator(width=2, blocks=1)), folder / f"{name}.pth")
    torch.save({"model.0.weight": torch.zeros(2, 3, 4, 4)}, folder / "latest_net_D_A.pth")
    write_options(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("latest_net_G_A.pth", ("latest", "A")),
        ("latest_net_G.pth", ("latest", "")),
        ("200_net_G_B.pth", ("200", "B")),
        ("iter_5000_net_G.pth", ("iter_5000", "")),
        ("netG_A2B.pth", ("latest", "A")),
        ("netG_B2A.pt", ("latest", "B")),
        ("G_AB_199.pth", ("199", "A")),
        ("G_BA.ckpt", ("latest", "B")),
        ("generator_199.pth", ("199", "")),
        ("netG.safetensors", ("latest", "")),
        ("latest_net_D_A.pth", None),
        ("latest_net_F.pth", None),
        ("latest_net_G_A.txt", None),
        ("ab.safetensors", None),
    ],
)
def test_names_of_generators(name, told):
    assert parse_name(name) == told


def test_both_directions_of_the_newest_epoch(maps):
    found = find_generators(maps)
    assert {way: file.name for way, file in found.files.items()} == {
        "ab": "latest_net_G_A.pth",
        "ba": "latest_net_G_B.pth",
    }
    assert found.notes == ["Epoch latest of 5, 200, latest; --epoch chooses another."]
    assert [file.name for file in find_generators(maps, "5", "ba").files.values()] == ["5_net_G_B.pth"]
    for name in ("latest_net_G_A.pth", "latest_net_G_B.pth"):
        (maps / name).unlink()
    assert [file.name for file in find_generators(maps).files.values()] == ["200_net_G_A.pth"]
    with pytest.raises(UsageError, match=r"no generator of epoch 7; it has 5, 200$"):
        find_generators(maps, "7")
    with pytest.raises(UsageError, match="no generator of direction ba, only of ab"):
        find_generators(maps, direction="ba")


def test_direction_b_to_a_swaps_the_domains(maps):
    """The original's domain A is then the user's B."""
    write_options(maps, direction="BtoA")
    assert find_generators(maps).files["ba"].name == "latest_net_G_A.pth"
    assert import_file(maps / "latest_net_G_B.pth").header.direction == "ab"


def test_a_copy_without_a_domain_is_left_out(maps):
    """Users rename latest_net_G_A.pth to latest_net_G.pth for the original's test.py."""
    shutil.copy(maps / "latest_net_G_A.pth", maps / "latest_net_G.pth")
    found = find_generators(maps, "latest")
    assert len(found.files) == 2 and found.notes == ["Left out: latest_net_G.pth."]


def test_one_generator_has_the_direction_of_the_options(tmp_path):
    torch.save(to_original(UnetGenerator(width=1, depth=5)), tmp_path / "latest_net_G.pth")
    write_options(tmp_path, direction="BtoA", norm="batch", no_dropout=False, crop_size=256)
    assert list(find_generators(tmp_path).files) == ["ba"]
    imported = import_file(tmp_path / "latest_net_G.pth")
    assert imported.header.direction == "ba" and imported.header.noise
    assert imported.generator.arguments["dropout"] is True
    assert not any("dropout" in note and "not" in note for note in imported.notes[:-1])
    assert import_file(tmp_path / "latest_net_G.pth", choices=Choices(dropout=False)).header.noise is False
    assert list(find_generators(tmp_path, direction="ab").files) == ["ab"]


def test_a_header_of_format_2_has_the_geometry_of_the_options(maps):
    imported = import_file(maps / "latest_net_G_A.pth")
    header = imported.header
    assert header.format == 2 and header.geometry == Geometry("resize-and-crop", 64, 64)
    assert header.origin["imported"] == "latest_net_G_A.pth" and header.origin["blake2b"]
    assert (header.source_contract.dtype, header.source_contract.channels) == ("uint8", 3)
    assert any(
        "train_opt.txt says: direction AtoB, preprocess resize_and_crop" in note for note in imported.notes
    )
    given = import_file(maps / "latest_net_G_A.pth", choices=Choices(size=32)).header
    assert (given.format, given.size) == (1, 32)


def test_what_nobody_told_is_said(maps):
    (maps / "train_opt.txt").unlink()
    notes = import_file(maps / "latest_net_G_A.pth").notes
    assert any("at their own scale; --size N" in note for note in notes)
    assert not any("direction" in note for note in notes)
    shutil.copy(maps / "latest_net_G_A.pth", maps / "horse2zebra.pth")
    notes = import_file(maps / "horse2zebra.pth").notes
    assert any("give --direction ba" in note for note in notes)
    assert not any(
        "give --direction ba" in note for note in import_file(maps / "horse2zebra.pth", direction="ab").notes
    )


def test_folders_without_a_generator_say_what_to_give(maps, tmp_path):
    with pytest.raises(UsageError, match="holds checkpoint folders; give one of them: maps_cyclegan"):
        find_generators(tmp_path)
    for file in maps.glob("*_net_G*"):
        file.unlink()
    with pytest.raises(
        UsageError, match=r"no generator, such as .*; it has latest_net_D_A\.pth, which can be"
    ):
        find_generators(maps)
    with pytest.raises(UsageError, match="no generator"):
        load(maps)


def test_load_opens_models_runs_folders_and_checkpoints_alike(maps, tmp_path):
    torch.manual_seed(0)
    network = ResnetGenerator(width=2, blocks=1)
    (tmp_path / "imported").mkdir()
    header = Header(describe(network), "ab", 64)
    save(network, header, tmp_path / "imported" / "ab.safetensors")
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    notes = []
    results = [
        twofold.load(path, device="cpu", **options)(image)
        for path, options in (
            (tmp_path / "imported" / "ab.safetensors", {}),
            (str(tmp_path / "imported"), {}),
            (maps, {"notify": notes.append}),
            (maps, {"epoch": "latest", "direction": "ab"}),
            (maps / "latest_net_G_A.pth", {"size": 64}),
        )
    ]
    assert all(torch.equal(each, results[0]) for each in results) and len(notes) == 2
    assert not torch.equal(load(maps, direction="ba", device="cpu")(image), results[0])
    assert is_foreign(maps) and not is_foreign(tmp_path / "imported") and not is_foreign(tmp_path)
    assert not is_foreign(tmp_path / "nowhere.pth")


def test_arguments_of_checkpoints_are_refused_for_models(maps, tmp_path):
    network = ResnetGenerator(width=2, blocks=1)
    save(network, Header(describe(network), "ab"), tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="--key is for checkpoints"):
        open_generator(tmp_path / "x.safetensors", choices=Choices(key="netG"))
    with pytest.raises(UsageError, match="translates ab, not ba"):
        open_generator(tmp_path / "x.safetensors", direction="ba")
    for path in (maps, maps / "latest_net_G_A.pth", tmp_path / "x.safetensors"):
        with pytest.raises(UsageError, match="--best is for runs"):
            open_generator(path, best=True)
    with pytest.raises(UsageError, match="--epoch is for checkpoint folders"):
        open_generator(maps / "latest_net_G_A.pth", choices=Choices(epoch="5"))
    with pytest.raises(TwofoldError, match="does not exist"):
        open_generator(tmp_path / "nowhere.pth")


def test_noise_is_for_models_too(tmp_path):
    network = UnetGenerator(width=1, depth=5, dropout=True)
    save(network, Header(describe(network), "ab"), tmp_path / "x.safetensors")
    torch.save(to_original(network), tmp_path / "latest_net_G.pth")
    for name in ("x.safetensors", "latest_net_G.pth"):
        assert load(tmp_path / name, noise=True, device="cpu").generator.arguments["dropout"]
