"""Checkpoints of other projects on the command line: import of folders, translate, info, evaluate and export."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from twofold.exchange.original import to_original
from twofold.formats import images
from twofold.networks.resnet import ResnetGenerator
from twofold.runs import Run

OPTIONS = """----------------- Options ---------------
               crop_size: 32                            \t[default: 256]
               direction: AtoB
              no_dropout: True
                    norm: instance
              preprocess: resize_and_crop
----------------- End -------------------
"""


@pytest.fixture
def maps(tmp_path, monkeypatch, noise):
    """A checkpoint folder of a CycleGAN in the current folder, and two images."""
    monkeypatch.chdir(tmp_path)
    folder = Path("maps_cyclegan")
    folder.mkdir()
    for seed, name in enumerate(("latest_net_G_A", "latest_net_G_B", "200_net_G_A")):
        torch.manual_seed(seed)
        torch.save(to_original(ResnetGenerator(width=2, blocks=1)), folder / f"{name}.pth")
    (folder / "train_opt.txt").write_text(OPTIONS)
    for name in ("a.png", "b.png"):
        noise(Path("photos", name))
    return folder


def pixels(folder):
    return [images.read(path).tobytes() for path in sorted(Path(folder).iterdir())]


def test_a_folder_becomes_a_folder_of_models(maps, call):
    result = call("import", maps, "-o", "models")
    assert (result.code, result.err) == (0, "")
    assert sorted(path.name for path in Path("models").iterdir()) == ["ab.safetensors", "ba.safetensors"]
    text = " ".join(result.out.split())
    assert "models/ba.safetensors: ba, network resnet" in text
    assert text.count("train_opt.txt says: direction AtoB, preprocess resize_and_crop, crop_size 32") == 1
    assert "Epoch latest of 200, latest" in text
    facts = json.loads(call("info", "models", "--direction", "ba", "--json").out)
    assert facts["direction"] == "ba" and facts["geometry"]["load_size"] == 32
    assert facts["origin"]["imported"] == "latest_net_G_B.pth"


def test_translate_imports_in_memory(maps, call):
    """The model of an import, its folder, the checkpoint and its folder give the same pixels."""
    assert call("import", maps, "-o", "models").code == 0
    assert call("translate", "models", "photos", "-o", "one", "--direction", "ba").code == 0
    assert call("translate", "models/ba.safetensors", "photos", "-o", "two").code == 0
    result = call("translate", maps, "photos", "-o", "three", "--direction", "ba")
    assert (result.code, result.out) == (0, "2 of 2 images translated to three\n")
    assert "train_opt.txt says" in result.err
    assert call("translate", maps / "latest_net_G_B.pth", "photos", "-o", "four").code == 0
    assert pixels("one") == pixels("two") == pixels("three") == pixels("four")
    assert call("translate", maps, "photos", "-o", "five").code == 0
    assert call("translate", maps, "photos", "-o", "six", "--epoch", "200").code == 0
    assert len({*map(tuple, map(pixels, ("one", "five", "six")))}) == 3


def test_translate_takes_the_key_of_a_file(maps, call):
    whole = {name: torch.load(maps / f"latest_net_G_{name}.pth") for name in "AB"}
    torch.save({"netG_A2B": whole["A"], "netG_B2A": whole["B"]}, "both.pth")
    assert call("translate", "both.pth", "photos", "-o", "one", "--key", "netG_B2A").code == 0
    assert call("translate", "both.pth", "photos", "-o", "two", "--direction", "ba").code == 0
    assert call("translate", maps / "latest_net_G_B.pth", "photos", "-o", "three", "--at", "native").code == 0
    assert pixels("one") == pixels("two") == pixels("three")
    assert json.loads(call("info", "both.pth", "--key", "netG_B2A", "--json").out)["direction"] == "ba"


def test_info_says_what_would_be_imported(maps, call, unchanged):
    with unchanged(maps):
        result = call("info", maps / "latest_net_G_B.pth")
    text = " ".join(result.out.split())
    assert result.code == 0 and "checkpoint: maps_cyclegan/latest_net_G_B.pth" in text
    assert "direction: ba" in text and "takes: uint8, 3 channels, 0…255; squashed to 32 × 32 px" in text
    assert "notes: maps_cyclegan/train_opt.txt says:" in text
    facts = json.loads(call("info", maps, "--json").out)
    assert facts["origin"]["imported"] == "latest_net_G_A.pth" and len(facts["notes"]) == 2


def test_info_lists_the_generators_of_a_file(maps, call):
    state = torch.load(maps / "latest_net_G_A.pth")
    torch.save({"netG_A2B": state, "netG_B2A": state, "epoch": 3}, "both.pth")
    result = call("info", "both.pth")
    assert result.code == 0 and "key netG_A2B, direction ab key netG_B2A, direction ba" in " ".join(
        result.out.split()
    )
    assert len(json.loads(call("info", "both.pth", "--json").out)["generators"]) == 2
    assert "no --key 'netG'" in call("info", "both.pth", "--key", "netG").line


def test_evaluate_takes_a_checkpoint_folder(maps, made, call):
    pictures = [made.pictures / name for name in ("testA", "testB")]
    result = call("evaluate", maps, *pictures, "--metrics", "psnr", "structure", "--json", "-o", "table.json")
    assert result.code == 0, result.err
    assert call("evaluate", maps / "latest_net_G_A.pth", *pictures, "--metrics", "psnr", "--json").code == 0


def test_what_cannot_be_imported_from_a_folder(maps, refuses):
    to = ["-o", "models"]
    assert "no generator of epoch 7; it has 200, latest" in refuses("import", maps, *to, "--epoch", "7")
    assert "holds both directions" in refuses("import", maps, "-o", "x.safetensors")
    assert "is a file" in refuses("import", maps, "-o", "photos/a.png")
    assert "--epoch is for folders" in refuses(
        "import", maps / "latest_net_G_A.pth", "-o", "x.safetensors", "--epoch", "200"
    )
    assert "holds checkpoint folders; give one of them: maps_cyclegan" in refuses("import", ".", *to)
    assert "holds no generator" in refuses("import", "photos", *to)
    assert "photos/a.png is" in refuses("import", "photos/a.png", "-o", "x.safetensors", code=1)


def test_a_checkpoint_is_not_overwritten(maps, refuses):
    save_file(torch.load(maps / "latest_net_G_A.pth"), "net.safetensors")
    before = Path("net.safetensors").read_bytes()
    assert "is the checkpoint itself" in refuses("import", "net.safetensors", "-o", "net.safetensors")
    assert Path("net.safetensors").read_bytes() == before


def test_one_direction_of_a_folder_becomes_a_file(maps, call):
    assert call("import", maps, "--direction", "ba", "-o", "x.safetensors").code == 0
    assert json.loads(call("info", "x.safetensors", "--json").out)["direction"] == "ba"


def test_export_writes_what_import_reads(maps, made, call, refuses):
    assert call("import", maps / "latest_net_G_A.pth", "-o", "x.safetensors").code == 0
    assert "is a twofold model already" in refuses("import", "x.safetensors", "-o", "y.safetensors")
    Path("run").mkdir()
    Path("run/config.yaml").write_text("a: x\n")
    assert "is a run of twofold" in refuses("import", "run", "-o", "y")
    result = call("export", "x.safetensors", "-o", "latest_net_G_A.pth")
    assert result.code == 0 and "--load_size 32 --crop_size 32" in " ".join(result.out.split())
    before, after = (torch.load(path) for path in (maps / "latest_net_G_A.pth", "latest_net_G_A.pth"))
    assert list(before) == list(after) and all(torch.equal(before[name], after[name]) for name in before)
    assert call("export", made.run, "--direction", "ba", "-o", "latest_net_G_B.pth").code == 0
    assert call("import", "latest_net_G_B.pth", "-o", "y.safetensors", "--size", "32").code == 0
    facts = json.loads(call("info", "y.safetensors", "--json").out)
    assert facts["direction"] == "ba"
    snapshot = json.loads(call("info", Run(made.run).newest_snapshot("ba"), "--json").out)
    assert facts["network"] == snapshot["network"]
    shutil.copy(maps / "200_net_G_A.pth", "other.pth")
    assert call("export", "other.pth", "-o", "plain.pth").code == 0
    assert "no suffix that tells what to write" in refuses("export", "x.safetensors", "-o", "x")


def test_networks_that_the_original_cannot_have_are_not_exported(tmp_path, monkeypatch, refuses):
    from twofold.networks.registry import describe
    from twofold.translation.header import Header
    from twofold.translation.model_file import save

    monkeypatch.chdir(tmp_path)
    network = ResnetGenerator(width=2, blocks=1, upsample="resize")
    save(network, Header(describe(network), "ab"), Path("resize.safetensors"))
    assert "the original has no ResNet with upsample resize" in refuses(
        "export", "resize.safetensors", "-o", "x.pth", code=1
    )
