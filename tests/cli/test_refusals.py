"""Options that contradict each other, and names that do not exist: refused in a line, before anything starts."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from twofold.cli import app as cli
from twofold.data import build
from twofold.formats import images

TINY = [
    "--size",
    "32",
    "--generator.width",
    "2",
    "--discriminator.width",
    "2",
    "--epochs",
    "1",
    "--decay-epochs",
    "0",
    "--out",
    "run",
]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The current folder with A and B in colour, grey of the same names as A, and pairs side by side."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    shapes = {"A": (32, 32, 3), "B": (32, 32, 3), "grey": (32, 32, 1), "pairs": (32, 64, 3)}
    for folder, shape in shapes.items():
        Path(folder).mkdir()
        for number in range(3):
            name = f"{'B' if folder == 'B' else 'A'}{number}.png"
            images.write(rng.integers(0, 256, shape, dtype=np.uint8), Path(folder) / name)
    return tmp_path


@pytest.fixture
def refused(capsys, folders):
    """What a training with these words is refused with."""

    def run(words):
        capsys.readouterr()
        code = cli.run(["train", *words.split(), *TINY])
        result = SimpleNamespace(**capsys.readouterr()._asdict())
        assert code == 2, result
        assert result.err.startswith("twofold: ") and result.err.count("\n") == 1, result.err
        assert not (folders / "run").exists()
        return result.err.removeprefix("twofold: ").rstrip()

    return run


@pytest.fixture
def unread(monkeypatch):
    """No image is looked at."""

    def build_manifest(*_, **__):
        raise AssertionError("images were read before the settings were known to fit")

    monkeypatch.setattr(build, "build_manifest", build_manifest)


CONTRADICTIONS = {
    "A B --adversarial.loss wgan --discriminator.norm batch": "the gradient penalty of wgan is computed for"
    " each image alone, which batch norm does not allow: set discriminator.norm to instance or none",
    "pairs --method pix2pix --adversarial.loss wgan": "set discriminator.norm to instance or none",
    "A B --method cut --cut.layers 0,99": "--cut.layers: the generator has the layers 0 to 17, not 0,99; name some of these in rising",
    "A B --method cut --cut.layers 4,0": "not 4,0; name some of these in rising order, such as 0,4,8,12,16",
    "A B --method fastcut --cut.layers 4,4": "not 4,4; name some of these in rising order",
    "A B --method cut --cut.layers -1": "not -1; name some",
    "A B --method cut --generator.network unet": "cut contrasts a ResNet's layers: set generator.network to",
    "A B --method fastcut --generator.network encoder-decoder": "fastcut contrasts a ResNet's layers",
    "A B --generator.network unet --generator.antialias": "generator.antialias is for ResNets, not for unet",
    "A B --generator.network unet --generator.halvings 1": "for ResNets, not for unet",
    "A B --perceptual.weight 1": "perceptual.network and perceptual.weight go together",
    "A B --cyclegan.gan-ab 0 --cyclegan.gan-ba 0 --cyclegan.cycle-a 0 --cyclegan.cycle-b 0": "are all 0",
    "pairs --method pix2pix --pix2pix.gan 0 --pix2pix.distance 0": "gan and distance are both 0",
    "A B --discriminator.scales 4": "needs a height and width",
    "A B --method cut --perceptual.network net.pt --perceptual.weight 1": "cut has no perceptual loss",
    "A B --cut.nce 5": "cyclegan has no setting cut.nce; leave it out, or use --method cut",
    "A B --method fastcut --cyclegan.identity 0": "fastcut has no setting cyclegan.identity; leave it out",
    "A B --preset cut-cat2dog --pix2pix.gan 0": "cut has no setting pix2pix.gan; leave it out, or use --method",
    "A --method cut": "two folders",
    "absent": "absent does not exist; give two folders of images or a dataset root",
    "A": "cyclegan takes two folders: `twofold train A B`",
}

UNKNOWN = {
    "A B --preset horse2zebr": "there is no preset horse2zebr; did you mean horse2zebra?",
    "A B --preset pix2pix-facade": "did you mean pix2pix-facades?",
    "A B --preset night2days": "did you mean night2day?",
    "A B --preset zzz": "there is no preset zzz; `twofold presets` lists them",
    "A B --adversarial.loss wgam": "did you mean wgan?",
    "A B --adversarial.loss lsgna": "did you mean lsgan?",
    "A B --generator.network pytorch_gan": "did you mean pytorch-gan?",
    "A B --discriminator.network pach": "did you mean patch?",
    "A B --generator.upsample resise": "did you mean resize?",
    "A B --adversarial.augment color": "did you mean colour?",
    "A B --method fastcat": "fastcut",
    "A B --adversarial.los wgan": "Did you mean --adversarial.loss?",
    "A B --decay 0": "Did you mean --decay-epochs?",
    "A B --precison bf16": "Did you mean --machine.precision?",
    "--precison bf16 A B": "Did you mean --machine.precision?",
    "A B --widht 3": "Did you mean --discriminator.width or --generator.width?",
    "A B --epoch5 3": "Did you mean --epochs?",
    "A B --zzzz 3": "Unknown option: --zzzz",
    "A B --cut.layer 0": "Did you mean --cut.layers?",
    "A B --phase train": "Unknown option: --phase; see `twofold train --help`",
    "A B --help-al": "Did you mean --help-all?",
    "A B --netG resnet_9blocks": "Did you mean --generator.network?",
    "--dataroot A": "Did you mean the folder alone, `twofold train DATAROOT`?",
    "A B --direction BtoA": "--direction must be ab or ba, not BtoA; did you mean ba?",
    "A B --pix2pix.conditionall": "Did you mean --pix2pix.conditional?",
}


@pytest.mark.parametrize(("words", "message"), CONTRADICTIONS.items(), ids=CONTRADICTIONS)
def test_a_contradiction_is_refused_before_an_image_is_read(refused, unread, words, message):
    assert message in refused(words)


@pytest.mark.parametrize(("words", "message"), UNKNOWN.items(), ids=UNKNOWN)
def test_an_unknown_name_has_a_nearest_one(refused, unread, words, message):
    assert message in refused(words)


def test_an_identity_loss_needs_equal_channels(refused):
    message = "the identity loss needs as many channels in A (3) as in B (1); leave out --cyclegan.identity"
    assert refused("A grey --cyclegan.identity 0.5") == message
    assert refused("A grey --preset monet2photo") == message
    assert refused("A grey --preset pytorch-gan") == message


@pytest.mark.parametrize("words", ["", " --cut.no-nce-identity", " --cut.nce-identity"])
def test_a_contrast_needs_equal_channels(refused, words):
    """Of images and their translations, so without the contrast of identities as well."""
    message = " needs as many channels in A (3) as in B (1); use"
    assert refused(f"A grey --method cut{words}") == f"cut{message} --method cyclegan"
    assert refused(f"A grey --method fastcut{words}") == f"fastcut{message} --method cyclegan"


def test_a_file_may_hold_the_settings_of_every_method(capsys, folders):
    """As the config.yaml of a run does, an identity loss among them that the run had no use for."""
    assert cli.run(["train", "A", "B", *TINY, "--method", "cut", "--cut.nce", "2", "--dry-run"]) == 0
    file = folders / "settings.yaml"
    plan = capsys.readouterr().out
    file.write_text(plan[plan.index("format:") : plan.index("evaluation:")])
    assert "identity: 0.5\n" in file.read_text() and "nce: 2.0\n" in file.read_text()
    words = ["-c", str(file), *TINY, "--dry-run"]
    assert cli.run(["train", "A", "B", *words, "--method", "cyclegan"]) == 0
    assert cli.run(["train", "A", "grey", *words, "--method", "pix2pix", "--data.paired"]) == 0


def test_no_identity_loss_where_none_was_asked_for(capsys, folders):
    assert cli.run(["train", "A", "grey", *TINY, "--dry-run"]) == 0
    assert "no identity loss" in capsys.readouterr().out


def test_pix2pix_of_folders_that_share_no_name(refused):
    message = refused("A B --method pix2pix")
    assert "A0.png" in message or "B0.png" in message


@pytest.mark.parametrize("between", [",", " ", ", "])
def test_several_values_of_one_option(capsys, folders, between):
    lists = {
        "--cut.layers": ("0", "4", "8"),
        "--discriminator.extra-layers": ("1", "2"),
        "--adversarial.augment": ("colour", "cutout"),
        "--training.log": ("csv", "wandb"),
        "--data.show-a": ("2", "1", "0"),
    }
    tokens = [word for name, values in lists.items() for word in (name, *between.join(values).split(" "))]
    assert cli.run(["train", "A", "B", "--method", "cut", *tokens, *TINY, "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "  layers:\n  - 0\n  - 4\n  - 8\n" in plan and "  augment:\n  - colour\n  - cutout\n" in plan
    assert "  log:\n  - csv\n  - wandb\n" in plan and "  show_a:\n  - 2\n  - 1\n  - 0\n" in plan
    assert "  extra_layers:\n  - 1\n  - 2\n" in plan


def test_options_of_the_original_are_replaced_by_options_that_exist():
    known = {
        name for each in cli.parser(["train"])["train"].assemble_argument_collection() for name in each.names
    }
    replacements = re.findall(r"--\S+", " ".join(cli.ORIGINAL_OPTIONS.values()))
    assert len(replacements) >= len(cli.ORIGINAL_OPTIONS) - 1 and {*replacements} <= known
