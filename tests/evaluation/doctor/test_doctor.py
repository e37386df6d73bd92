"""The doctor on whole run folders: healthy, ill, live, old, empty, damaged and hostile ones."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from safetensors.torch import save_file
from torch.nn import functional as F

from twofold import config
from twofold.cli import app as cli
from twofold.evaluation.doctor import appearance, inputs, symptoms
from twofold.evaluation.doctor import examine as doctor
from twofold.evaluation.doctor.examine import examine
from twofold.evaluation.doctor.folder import File, contract_of
from twofold.evaluation.doctor.models import cycle_finding, read_evenly
from twofold.formats import images
from twofold.formats.contract import Contract
from twofold.networks.discriminators import PatchDiscriminator
from twofold.networks.layers import Generator, initialise
from twofold.networks.registry import describe
from twofold.networks.resnet_skips import SkipResnetGenerator
from twofold.runs import Run
from twofold.translation import model_file
from twofold.translation.header import Header

SIDE = 32

HEALTHY = {"gan_ab": 0.3, "gan_ba": 0.35, "cycle_a": 1.2, "cycle_b": 1.0, "disc_a": 0.21, "disc_b": 0.2}

CONFIG = {
    "format": 1,
    "method": "cyclegan",
    "data": {"size": SIDE, "channels_a": 3, "channels_b": 3, "resize": "resize-and-crop", "cache": True},
    "discriminator": {
        "network": "patch",
        "width": 8,
        "layers": 1,
        "norm": "instance",
        "init": "normal",
        "also": [],  # of 0.1; renamed since
    },
    "adversarial": {"loss": "lsgan"},
    "cyclegan": {"gan_ab": 1.0, "gan_ba": 1.0},
    "training": {"epochs": 10.0, "decay_epochs": 10.0},
}


class Clinic:
    """Makes a run folder, healthy but for what is asked."""

    def __init__(self, home: Path) -> None:
        self.run = Run(home / "run")

    def admit(self, losses=HEALTHY, waiting=0.001, config=CONFIG, reports=40):
        """A run of 40 reports, one each 50 images: as it is after all of 2,000 images."""
        run, rng = self.run, random.Random(0)
        run.path.mkdir(exist_ok=True)
        run.config.write_text(yaml.safe_dump(config))
        rows = [
            {
                "images": 50 * i,
                "epoch": 0.5 * i,
                "lr": 2e-4,
                "losses": {k: v * rng.uniform(0.9, 1.1) for k, v in losses.items()},
            }
            for i in range(1, reports + 1)
        ]
        run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
        timing = [{"images": row["images"], "images_per_s": 2.0, "waiting": waiting} for row in rows]
        run.timing.write_text("".join(json.dumps(row) + "\n" for row in timing))
        self.list_files("abcdefghij", "klmnopqrst")
        self.draw(2000, "ab", summers(), frozen(summers()))
        self.draw(2000, "ba", frozen(summers(9)), summers(9))
        return run

    def list_files(self, a, b, folders=(Path("A"), Path("B")), held_out=()):
        sides = {
            side: {
                "folder": str(folder),
                "files": [{"name": f"{name}.png", "hash": name, "error": "", "bytes": 1} for name in content],
                "held_out": [f"{name}.png" for name in held_out],
                "val": None,
            }
            for side, content, folder in zip("ab", (a, b), folders, strict=True)
        }
        self.run.data.write_text(json.dumps({"format": 1, **sides}))

    def draw(self, count, way, sources, translations):
        """A sample grid."""
        rows = [np.concatenate([s, t, s], 1) for s, t in zip(sources, translations, strict=True)]
        picture = (255 * np.concatenate(rows).clip(0, 1)).astype(np.uint8)
        path = self.run.sample(count, way)
        path.parent.mkdir(exist_ok=True)
        images.write(picture, path)


def summers(seed=1, count=4):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    height = 0.5 + 0.2 * np.sin(rng.uniform(2, 6, (count, 1, 1)) * x + rng.uniform(0, 6, (count, 1, 1)))
    sky, ground = rng.uniform(0.1, 0.9, (2, count, 1, 1, 3))
    return np.where((y > height)[..., None], ground, sky).astype(np.float32)


def frozen(pictures):
    return (0.5 + 0.5 * pictures * np.array([0.7, 0.9, 1.0])).astype(np.float32)


@pytest.fixture
def clinic(tmp_path):
    return Clinic(tmp_path)


def names(run, **options):
    return [finding.name for finding in examine(run, **options)]


def test_a_healthy_run_gets_one_calm_line(clinic, capsys):
    run = clinic.admit()
    assert names(run, models=True) == []
    assert cli.run(["doctor", str(run.path)]) == 0
    assert "No problem found after 2,000 images. This does not mean that the result is good" in " ".join(
        capsys.readouterr().out.split()
    )
    assert cli.run(["doctor", str(run.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_folder_alone_is_examined_without_torch():
    code = "import sys, twofold.evaluation.doctor.examine\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_option_in_the_advice_exists():
    known = {
        f"{room}.{field}"
        for room, fields in config.schema().items()
        if isinstance(fields, dict)
        for field in fields
    }
    for module in (symptoms, appearance, inputs):
        said = re.findall(r"--([a-z]+\.[a-z0-9-]+)", Path(module.__file__).read_text())
        assert said and {option.replace("-", "_") for option in said} <= known


ADVICE = [
    *(
        "--adversarial.r1 1",
        "--adversarial.augment colour",
        "--adversarial.augment colour,translation,cutout",
    ),
    *("--lr 0.0001", "--machine.precision float32", "--data.workers 8", "--cache", "--seed 1"),
    *("--cyclegan.cycle-a 10 --cyclegan.cycle-b 10", "--cyclegan.cycle-a 4 --cyclegan.cycle-b 4"),
    *("--cyclegan.identity 0.1", "--cyclegan.identity 0.5", "--cut.nce 0.5", "--cut.nce 1", "--cut.nce 5"),
    *("--cut.nce 10", "--cut.nce-identity", "--training.ema 1000", "--generator.skips", "--method cut"),
    *("--generator.upsample resize", "--data.resize shortest", "--size 64 --data.load-size 64"),
    *("--data.range-a 87 3912", "--data.range-b -1000 1200.5"),
]
"""Every option that the doctor advises, as it prints it."""


@pytest.mark.parametrize("advice", ADVICE)
def test_advice_can_be_pasted(tmp_path, capsys, advice):
    for name in "AB":
        noise(tmp_path / name, "abcd")
    method = ["--method", "cut"] if "--cut" in advice else []
    tokens = ["train", str(tmp_path / "A"), str(tmp_path / "B"), "--out", str(tmp_path / "run"), "--dry-run"]
    assert cli.run([*tokens, *method, *advice.split()]) == 0, capsys.readouterr().err


def test_advice_that_can_be_pasted_is_all_there_is():
    text = "".join(Path(module.__file__).read_text() for module in (symptoms, appearance, inputs))
    known = {option for advice in ADVICE for option in advice.split() if option.startswith("--")}
    assert set(re.findall(r"--[a-z][a-z0-9.-]*", text)) - {"--out"} == known


# ---- the illnesses, in a folder


def test_troubles_come_first_and_are_said(clinic, capsys):
    run = clinic.admit(losses=HEALTHY | {"disc_b": 0.004, "gan_ab": 1.0}, waiting=0.3)
    assert names(run) == ["discriminator of B won", "waits for images"]
    assert cli.run(["doctor", str(run.path)]) == 1
    said = capsys.readouterr().out
    assert all(len(line) <= 80 for line in said.splitlines())
    assert (
        said.startswith("trouble: The discriminator of B has won:")
        and "\n    try: Resume it with more threads: `--data.workers 8`" in said
    )
    cli.run(["doctor", str(run.path), "--json"])
    first, _ = json.loads(capsys.readouterr().out)
    assert set(first) == {"name", "severity", "sentence", "advice"} and first["severity"] == "trouble"


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ({"disc_b": 0.7, "gan_ab": 0.8, "l1": 20.0}, []),
        ({"disc_b": 0.01, "gan_ab": 4.0, "l1": 20.0}, ["discriminator of B won"]),
    ],
)
def test_pix2pix_is_measured_by_its_cross_entropy(clinic, losses, expected):
    config = CONFIG | {"method": "pix2pix", "adversarial": {}, "pix2pix": {"gan": 1.0}}
    assert names(clinic.admit(losses=losses, config=config)) == expected


@pytest.mark.parametrize(("gan", "expected"), [(1.0, []), (0.25, ["discriminator of B won"])])
def test_a_weighted_adversarial_loss_is_measured_without_its_weight(clinic, gan, expected):
    config = CONFIG | {"method": "fastcut", "cut": {"gan": gan}}
    losses = {"disc_b": 0.004, "gan_ab": 0.3, "nce_a": 3.0}
    assert names(clinic.admit(losses=losses, config=config)) == expected


def test_a_training_that_ended_over_a_loss(clinic):
    run = clinic.admit()
    with run.metrics.open("a") as log:
        log.write(json.dumps({"images": 2010, "not_finite": ["gan_ba"]}) + "\n")
    (found,) = examine(run)
    assert found.name == "not finite" and "gan_ba stopped being finite after image 2,010" in found.sentence


def test_images_in_both_domains(clinic):
    run = clinic.admit()
    clinic.list_files("abcdefghij", "jklmnopqrst")
    assert names(run) == ["domains mixed up"]


def test_held_out_images_that_are_trained_on(clinic):
    run = clinic.admit()
    clinic.list_files("abcdefghij", "klmnopqrst", held_out="ak")
    assert names(run) == []
    content = json.loads(run.data.read_text())
    content["a"]["val"] = {"folder": "V", "files": [{"name": "z.png", "hash": "b", "error": ""}]}
    run.data.write_text(json.dumps(content))
    assert names(run) == ["held-out images of A trained on"]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda x: np.zeros_like(x) + x[:1], ["A→B collapsed"]),
        (lambda x: x, ["A→B copies"]),
        (lambda x: 1 - x, ["A→B inverts"]),
        (lambda x: x * np.array([1, 0.2, 0]), ["A→B colours off"]),
        (
            lambda x: frozen(x) + 0.03 * np.cos(np.pi * np.arange(SIDE))[:, None, None] ** np.ones(3),
            ["A→B checkerboard"],
        ),
    ],
)
def test_pictures_that_are_ill(clinic, spoil, expected):
    run = clinic.admit()
    clinic.draw(2000, "ab", summers(), spoil(summers()))
    assert names(run) == expected


def test_what_follows_from_a_copy_is_left_out(clinic):
    run = clinic.admit(losses=HEALTHY | {"disc_b": 0.004, "gan_ab": 1.0, "disc_a": 0.004, "gan_ba": 1.0})
    clinic.draw(2000, "ab", summers(), summers())
    assert names(run) == ["discriminator of A won", "A→B copies"]


def test_one_picture_for_everything_is_one_finding(clinic):
    run = clinic.admit(losses=HEALTHY | {"disc_b": 0.004, "gan_ab": 1.0})
    stripes = np.full_like(summers(), 0.5) + 0.2 * np.cos(np.pi * np.arange(SIDE))[:, None]
    clinic.draw(2000, "ab", summers(), stripes)
    assert names(run) == ["A→B collapsed"]


def test_halves_of_one_file_are_not_the_same_image(clinic):
    config = CONFIG | {"method": "pix2pix", "data": {"size": SIDE, "paired": True}}
    run = clinic.admit(losses={"disc_b": 0.6, "gan_ab": 0.8, "l1": 20.0}, config=config)
    clinic.list_files("abcdefghij", "abcdefghij")
    assert names(run) == ["domains mixed up"]
    content = json.loads(run.data.read_text())
    content["a"]["part"], content["b"]["part"] = "left", "right"
    run.data.write_text(json.dumps(content))
    assert names(run, models=True) == []


def test_pairs_may_ask_for_a_negative(clinic):
    config = CONFIG | {"method": "pix2pix", "data": {"size": SIDE, "paired": True}}
    run = clinic.admit(losses={"disc_b": 0.6, "gan_ab": 0.8, "l1": 20.0}, config=config)
    clinic.draw(2000, "ab", summers(), 1 - summers())
    assert names(run) == []


def test_a_cycle_too_good_to_be_seen_may_leap(clinic):
    run = clinic.admit(losses=HEALTHY | {"cycle_a": 0.01}, config=CONFIG | {"cyclegan": {"cycle_a": 10.0}})
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    rows[20]["losses"]["cycle_a"] = 0.5
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert names(run) == []
    rows[20]["losses"]["cycle_a"] = 5.0
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert names(run) == ["unsteady losses"]


def test_young_pictures_are_not_judged(clinic):
    run = clinic.admit(reports=3)
    for path in (run.path / "samples").iterdir():
        path.unlink()
    clinic.draw(150, "ab", summers(), summers())
    assert names(run) == []
    clinic.draw(250, "ab", summers(), summers())
    assert names(run) == ["A→B copies"]
    run.config.write_text(yaml.safe_dump(CONFIG | {"training": {"epochs": 100, "decay_epochs": 100}}))
    assert names(run) == []  # early in 20,000 images


# ---- one direction: the other domain's pictures are those that the run trains on


@pytest.fixture
def one_way(clinic, tmp_path):
    """A FastCUT run on summers and winters that are there; the discriminator is always right."""
    losses = {"disc_b": 0.004, "gan_ab": 1.0, "nce_a": 14.0}
    run = clinic.admit(losses=losses, config=CONFIG | {"method": "fastcut", "cut": {"nce": 10}})
    run.sample(2000, "ba").unlink()
    folders = tmp_path / "A", tmp_path / "B"
    for folder, letters, pictures in zip(
        folders, ("abcd", "klmn"), (summers(), frozen(summers(9))), strict=True
    ):
        folder.mkdir()
        for letter, picture in zip(letters, pictures, strict=True):
            images.write((255 * picture).round().astype(np.uint8), folder / f"{letter}.png")
    clinic.list_files("abcd", "klmn", folders)
    return run


def slightly_changed(pictures):
    """By 4 levels, as a FastCUT generator with a strong contrast does; no copy where colours are unknown."""
    return pictures + np.float32(4 / 255)


def test_a_copy_of_a_one_way_method_is_found(clinic, one_way):
    clinic.draw(2000, "ab", summers(), slightly_changed(summers()))
    (found,) = examine(one_way)
    assert found.name == "A→B copies" and found.severity == "trouble"  # and the discriminator is not blamed
    assert "`--cut.nce 5`" in found.advice and "cyclegan" not in found.advice


def test_a_one_way_method_that_translates_is_no_copy(clinic, one_way):
    assert names(one_way) == ["discriminator of B won"]


def test_a_negative_of_a_one_way_method_may_be_right(clinic, one_way):
    clinic.draw(2000, "ab", summers(), 1 - summers())
    assert "A→B inverts" in names(one_way)
    for letter, picture in zip("klmn", 1 - summers(), strict=True):
        images.write((255 * picture).round().astype(np.uint8), one_way.path.parent / "B" / f"{letter}.png")
    one_way.data.write_text(one_way.data.read_text() + "\n")  # another file list
    assert "A→B inverts" not in names(one_way)


def test_a_copy_is_measured_before_the_compression(clinic, one_way):
    """Domains of equal colours, where a copy changes by less than 2 levels: noise on the grid alone would hide it."""
    for letter, picture in zip("klmn", summers(), strict=True):
        images.write((255 * picture).round().astype(np.uint8), one_way.path.parent / "B" / f"{letter}.png")
    rng = np.random.default_rng(0)
    clinic.draw(2000, "ab", summers(), summers() + rng.normal(0, 5 / 255, summers().shape))
    clinic.list_files("abcd", "klmn", (one_way.path.parent / "A", one_way.path.parent / "B"), held_out="ab")
    generator = SkipResnetGenerator(3, 3, width=2, blocks=1)
    for weight in generator.parameters():
        torch.nn.init.zeros_(weight)  # what it adds to its input
    model_file.save(generator, Header(describe(generator), "ab", SIDE), one_way.snapshot(2000, "ab"))
    assert "A→B copies" not in names(one_way)
    assert "A→B copies" in names(one_way, models=True)
    clinic.draw(100, "ab", summers(), summers())
    one_way.sample(2000, "ab").unlink()
    assert "A→B copies" not in names(one_way, models=True)  # too early to say


def test_a_snapshot_that_cannot_be_loaded_is_named(one_way):
    path = one_way.snapshot(2000, "ab")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"half a file")
    (finding,) = [each for each in examine(one_way, models=True) if each.name == "snapshot ab damaged"]
    assert finding.severity == "trouble" and path.name in finding.sentence


# ---- the images that a run trains on


def resized(run, a, b, **settings):
    """Give the images of both domains a size."""
    content = json.loads(run.data.read_text())
    for side, (width, height) in (("a", a), ("b", b)):
        for file in content[side]["files"]:
            file |= {"width": width, "height": height}
    run.data.write_text(json.dumps(content))
    run.config.write_text(yaml.safe_dump(CONFIG | {"data": CONFIG["data"] | settings}))


@pytest.mark.parametrize(
    ("a", "b", "settings", "expected"),
    [
        ((64, 32), (32, 32), {}, ["domains squashed differently"]),
        ((64, 32), (32, 32), {"resize": "shortest"}, []),
        ((64, 32), (128, 64), {}, []),
        ((16, 16), (64, 64), {"resize": "shortest"}, ["A enlarged"]),
        ((16, 16), (64, 64), {"resize": "crop"}, []),
        ((48, 48), (64, 64), {"resize": "shortest"}, []),
        ((64, 32), (32, 32), {"paired": True}, []),
    ],
)
def test_domains_of_other_shapes_and_scales(clinic, a, b, settings, expected):
    run = clinic.admit()
    resized(run, a, b, **settings)
    assert names(run) == expected


def test_few_images_for_a_large_discriminator(clinic):
    run = clinic.admit()  # 10 images of 3,072 values in each domain
    run.state(2000).mkdir(parents=True)
    state = {
        f"method/disc_{side}.body.weight": torch.zeros(count)
        for side, count in (("a", 30_720), ("b", 30_721))
    }
    save_file(state | {"method/gen_ab.weight": torch.zeros(90_000)}, run.state(2000) / "state.safetensors")
    assert names(run) == ["few images of B"]
    augmented = {"adversarial": {"loss": "lsgan", "augment": ["colour"]}}
    run.config.write_text(yaml.safe_dump(CONFIG | augmented))
    assert names(run) == []


@pytest.mark.parametrize(("high", "expected"), [(2000.0, ["range of A clips"]), (4095.0, [])])
def test_a_range_that_clips(clinic, tmp_path, high, expected):
    run, folder = clinic.admit(), tmp_path / "A"
    folder.mkdir()
    for letter in "abcd":
        ramp = np.linspace(87, 3912, 24 * 24).astype(np.uint16).reshape(24, 24)
        tifffile.imwrite(folder / f"{letter}.png", ramp)  # read by content
    clinic.list_files("abcd", "klmn", (folder, tmp_path / "B"))
    content = json.loads(run.data.read_text())
    content["a"]["contract"] = Contract("uint16", 1, (0.0,), (high,), "settings").to_dict()
    run.data.write_text(json.dumps(content))
    found = [finding for finding in examine(run, models=True) if "range" in finding.name]
    assert [finding.name for finding in found] == expected
    if found:
        assert "0…2,000 (as set)" in found[0].sentence and "`--data.range-a 87 3912`" in found[0].advice


def test_a_short_run_has_no_trouble_that_may_pass(clinic):
    run = clinic.admit(reports=7)  # 350 images
    for path in (run.path / "samples").iterdir():
        path.unlink()
    clinic.draw(350, "ab", summers(), summers())
    clinic.draw(350, "ba", frozen(summers(9)), summers(9))
    assert [(each.name, each.severity) for each in examine(run)] == [("A→B copies", "watch")]
    run = clinic.admit(reports=8)
    clinic.draw(2000, "ab", summers(), summers())
    assert [(each.name, each.severity) for each in examine(run)] == [("A→B copies", "trouble")]


def test_a_young_discriminator_has_not_won(clinic):
    """A generator that starts from a copy is recognised at first."""
    sure = HEALTHY | {"disc_b": 0.004, "gan_ab": 1.0}
    clinic.admit(losses=sure, reports=9)  # 450 images
    assert names(clinic.run) == ["discriminator of B won"]
    clinic.run.config.write_text(yaml.safe_dump(CONFIG | {"training": {"epochs": 50, "decay_epochs": 50}}))
    assert names(clinic.run) == []  # of 10,000


# ---- generators and discriminators


class Smuggler(Generator):
    """Makes grey pictures in whose last bits the source stands, and reads it there."""

    def __init__(self, there: bool) -> None:
        super().__init__()
        self.there, self.minimum, self.multiple_of = there, 1, 1
        self.arguments = {"in_channels": 3}

    def forward(self, image):
        return image / 200 if self.there else (image * 200).clamp(-1, 1)


def test_a_cycle_that_smuggles_its_source_through():
    sources = [torch.from_numpy(x.transpose(2, 0, 1)[None].copy()) * 2 - 1 for x in summers()]
    translated = [Smuggler(True)(x) for x in sources]
    found = cycle_finding("ab", sources, translated, Smuggler(False))
    assert found is not None and found.name == "A→B→A hides its source"


def test_a_cycle_that_reads_what_can_be_seen():
    class Negative(Smuggler):
        def forward(self, image):
            return -image

    sources = [torch.from_numpy(x.transpose(2, 0, 1)[None].copy()) * 2 - 1 for x in summers()]
    assert cycle_finding("ba", sources, [-x for x in sources], Negative(False)) is None


def test_a_network_that_changes_nothing_hides_nothing():
    class Identity(Smuggler):
        def forward(self, image):
            return image

    sources = [torch.from_numpy(x.transpose(2, 0, 1)[None].copy()) * 2 - 1 for x in summers()]
    assert cycle_finding("ab", sources, sources, Identity(True)) is None


def noise(folder, letters):
    folder.mkdir(exist_ok=True)
    for letter in letters:
        rng = np.random.default_rng(ord(letter))
        images.write(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), folder / f"{letter}.png")


@pytest.mark.parametrize(("memorised", "expected"), [(True, ["discriminator of B overfits"]), (False, [])])
def test_a_discriminator_that_memorised_its_images(clinic, tmp_path, memorised, expected):
    """Its images are noise: only one that has learnt them by heart can tell them from others."""
    run, folders = clinic.admit(), (tmp_path / "A", tmp_path / "B")
    noise(folders[0], "abcdefgh")
    noise(folders[1], "klmnopqr")
    clinic.list_files("abcdefgh", "klmnopqr", folders, held_out="abcdklmn")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generators = {way: SkipResnetGenerator(3, 3, width=2, blocks=1) for way in ("ab", "ba")}
        disc = PatchDiscriminator(3, width=8, layers=1)
        for network in (*generators.values(), disc):
            initialise(network, "normal", 0.02)
    for way, generator in generators.items():
        model_file.save(generator, Header(describe(generator), way, SIDE), run.snapshot(2000, way))
    if memorised:
        memorise(disc, folders[1], "opqr", folders[0], "efgh")
    run.state(2000).mkdir(parents=True)
    weights = {f"method/disc_b.{name}": weight.detach() for name, weight in disc.state_dict().items()}
    save_file(weights, run.state(2000) / "state.safetensors")
    assert [name for name in names(run, models=True) if "overfits" in name] == expected


def memorise(disc, folder, letters, others, fakes):
    def batch(folder, letters):
        read = [images.read(folder / f"{letter}.png", 3) for letter in letters]
        return images.to_float(torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).contiguous())

    real, fake = batch(folder, letters), batch(others, fakes)
    optimizer = torch.optim.Adam(disc.parameters(), 0.01)
    for _ in range(60):
        logits = disc(real).mean((1, 2, 3)), disc(fake).mean((1, 2, 3))
        loss = F.softplus(-5 * logits[0]).mean() + F.softplus(5 * logits[1]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# ---- folders as they come


def test_an_empty_folder_and_none(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (found,) = examine(Run(tmp_path / "empty"), models=True)
    assert found.name == "no run" and "twofold train A B --out" in found.advice
    assert names(Run(tmp_path / "nowhere")) == ["no run"]
    for folder in ("empty", "nowhere"):
        assert cli.run(["doctor", str(tmp_path / folder)]) == 2
        assert "is not a run folder" in capsys.readouterr().err


def test_a_run_that_has_just_started(clinic):
    run = clinic.admit(reports=0)
    for path in (run.metrics, run.timing, *(run.path / "samples").iterdir()):
        path.unlink()
    assert names(run, models=True) == []
    assert doctor.no_problem(run).startswith("Nothing to judge yet")


def test_an_old_run_without_the_newer_settings(clinic):
    old = {"format": 1, "method": "cyclegan", "cyclegan": {"adversarial": "bce"}}
    run = clinic.admit(losses=HEALTHY | {"disc_a": 0.02, "gan_ba": 5.0}, config=old)
    assert names(run, models=True) == ["discriminator of A won"]


def test_damaged_parts_are_named_and_the_rest_is_read(clinic):
    run = clinic.admit(losses=HEALTHY | {"disc_b": 0.004, "gan_ab": 1.0})
    run.config.write_text("{ half: written")
    run.data.unlink()
    for path in run.samples("ab"):
        path[1].write_bytes(path[1].read_bytes()[:40])
    with run.metrics.open("a") as log:
        log.write('{"images": 2050, "los')
    assert names(run, models=True) == ["config.yaml damaged", "discriminator of B won", "data.json damaged"]


JUNK = [None, True, -1, 10**400, 1e308, "x", "<b>", [], [1], {}, {"a": None}, "../../etc", "\x00"]


@pytest.mark.parametrize("seed", range(30))
def test_no_content_of_a_folder_stops_the_doctor(clinic, seed):
    rng = random.Random(seed)
    run = clinic.admit()
    run.config.write_text(yaml.safe_dump(spoilt(CONFIG, rng)))
    content = json.loads(run.data.read_text())
    run.data.write_text(json.dumps(spoilt(content, rng)))
    for log in (run.metrics, run.timing):
        rows = [json.dumps(spoilt(json.loads(line), rng)) for line in log.read_text().splitlines()]
        log.write_text("\n".join(rows))
    for _, path in run.samples("ab"):
        content = bytearray(path.read_bytes())
        for _ in range(rng.choice([0, 3, 300])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
    for finding in examine(run, models=True):
        assert finding.severity in ("trouble", "watch") and finding.sentence and finding.advice


def spoilt(value, rng):
    """`value` with something in it replaced by junk."""
    if rng.random() < 0.04:
        return rng.choice(JUNK)
    if isinstance(value, dict):
        return {key: spoilt(each, rng) for key, each in value.items()}
    if isinstance(value, list):
        return [spoilt(each, rng) for each in value]
    return value


@pytest.mark.parametrize(
    "domain",
    [
        {"contract": "text"},
        {"contract": {"dtype": "int16"}},
        {"contract": {"dtype": "text", "channels": 1, "low": [0], "high": [1]}},
        {"contract": {"dtype": "uint8", "channels": 2.5, "low": [0], "high": [1]}},
        {"contract": {"dtype": "uint8", "channels": 1, "low": [0], "high": [10**400]}},
        {"contract": {"dtype": "uint8", "channels": 1, "low": [9], "high": [1]}},
        {"channels": "many"},
        {},
    ],
)
def test_a_domain_without_a_good_contract_has_8_bits(domain):
    assert contract_of(domain) == Contract()


def test_images_are_read_by_their_contract(tmp_path):
    """CT of int16, the middle square at the scale of training; files of another kind are left out."""
    contract = Contract("int16", 1, (-1000.0,), (1000.0,), "percentiles")
    tifffile.imwrite(tmp_path / "ct.tif", np.tile(np.arange(-1000, 1000, 50, dtype=np.int16), (20, 1)))
    tifffile.imwrite(tmp_path / "bands.tif", np.zeros((20, 20, 5), np.uint16), planarconfig="contig")
    listed = [File(name, tmp_path / name, "") for name in ("ct.tif", "bands.tif", "gone.tif")]
    assert contract_of({"contract": contract.to_dict()}) == contract
    (found,) = read_evenly(listed, {"size": 20, "resize": "shortest"}, contract)
    expected = np.tile(np.arange(-500, 500, 50) / 1000, (20, 1))
    assert found.shape == (1, 1, 20, 20) and np.allclose(found[0, 0].numpy(), expected, atol=1e-6)
    (squashed,) = read_evenly(listed, {"size": 20, "resize": "resize-and-crop"}, contract)
    assert squashed.min() < -0.9 and squashed.max() > 0.9
