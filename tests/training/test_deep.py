"""Runs on images that are not 8-bit pictures: CT in Hounsfield units, 13 bands, 12-bit landscapes."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from twofold.cli import app as cli
from twofold.evaluation.evaluate import evaluate
from twofold.formats import images
from twofold.runs import Run, read_lines
from twofold.seasons import landscape
from twofold.training.train import train
from twofold.translation.translator import Translator

AIR, LUNG, WATER, BONE = -1000, -800, 40, 700


def phantom(rng, side=64):
    """A body with two lungs, a spine and a few vessels, (side, side) in Hounsfield units."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    image = np.full((side, side), float(AIR))

    def ellipse(cx, cy, across, down, value):
        image[((x - cx) / across) ** 2 + ((y - cy) / down) ** 2 < 1] = value

    across, down = rng.uniform(0.36, 0.46), rng.uniform(0.28, 0.4)
    ellipse(0, 0, across, down, WATER + rng.uniform(-20, 20))
    for way in (-1, 1):
        ellipse(way * across * 0.5, -0.02, across * rng.uniform(0.2, 0.36), down * 0.6, LUNG)
    ellipse(0, down * 0.6, 0.06, 0.07, BONE + rng.uniform(-100, 300))
    for _ in range(6):
        cx, cy, radius = rng.uniform(-0.3, 0.3), rng.uniform(-0.2, 0.2), rng.uniform(0.01, 0.03)
        ellipse(cx, cy, radius, radius, WATER + rng.uniform(0, 60))
    return image


def ct_pairs(folder, count, seed, side=64, noise=80.0):
    """Noisy scans in A and clean ones in B of the same names, int16 TIFF; the folder of both."""
    for name in ("A", "B"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        clean = phantom(rng, side)
        noisy = clean + rng.normal(0, noise, clean.shape)
        for name, image in (("A", noisy), ("B", clean)):
            tifffile.imwrite(folder / name / f"{i}.tif", image.round().astype(np.int16))
    return folder


def psnr_by_hand(run, test):
    """PSNR relative to B's range, of the middle 32 pixels of images loaded at 36, which the run is judged by."""
    translator, found = Translator.load(run.path, best=True, device="cpu"), []
    for path in (test / "A").iterdir():
        files = (tifffile.imread(test / name / path.name)[..., None] for name in ("A", "B"))
        a, b = (images.resize(image, 36, 36)[2:34, 2:34] for image in files)
        error = np.mean((translator.array(a, at="native").astype(float) - b) ** 2)
        found.append(10 * np.log10(translator.target.span**2 / error))
    return np.mean(found)


def newest_grid(run):
    with Image.open(run.samples("ab")[-1][1]) as grid:
        return np.asarray(grid.convert("RGB")).astype(int)


SMALL = {
    "discriminator": {"width": 8, "layers": 2},
    "training": {"samples": 2},
    "machine": {"threads": 1, "precision": "float32"},
}


def test_ct_pairs_train_and_are_evaluated_in_hounsfield_units(tmp_path, capsys):
    ct, test = ct_pairs(tmp_path / "ct", 5, 0, 40), ct_pairs(tmp_path / "test", 4, 1, 40)
    words = [
        "train",
        ct / "A",
        ct / "B",
        "--method",
        "pix2pix",
        "--size",
        32,
        "--epochs",
        1,
        "--decay-epochs",
        0,
    ]
    words += ["--val", test / "A", test / "B", "--generator.width", 4, "--discriminator.width", 4]
    words += ["--machine.threads", 1, "--eval-every", 5, "--out", tmp_path / "run"]
    assert cli.run([str(word) for word in words]) == 0
    run = Run(tmp_path / "run")
    (row,) = read_lines(run.evaluations)
    assert row["values"]["psnr"] == pytest.approx(psnr_by_hand(run, test), abs=1e-3)
    assert newest_grid(run).shape == (32 * 4, 96, 3)
    capsys.readouterr()
    assert cli.run(["evaluate", str(run.path), str(test / "A"), str(test / "B"), "--paired"]) == 0
    printed = capsys.readouterr().out
    translator, errors = Translator.load(run.path, device="cpu"), []
    assert translator.source.dtype == translator.target.dtype == "int16"
    for path in sorted((test / "A").iterdir()):
        made = translator.array(tifffile.imread(path)[..., None])
        assert made.dtype == np.int16
        errors.append(np.abs(made[..., 0].astype(int) - tifffile.imread(test / "B" / path.name)).mean())
    (shown,) = re.findall(r"MAE +([0-9.]+)", printed)
    assert float(shown) == pytest.approx(np.mean(errors), rel=0.01)
    assert "Hounsfield" in printed


def test_bands_to_ct_show_the_channels_that_the_user_chose(tmp_path):
    """13 bands of 16 bits and one channel of CT, unpaired; a channel that is not there is refused at the start."""
    rng = np.random.default_rng(0)
    for name in "AB":
        (tmp_path / name).mkdir()
    for i in range(4):
        bands = np.linspace(0, 4000, 13)[:, None, None] + rng.integers(0, 90, (13, 24, 24))
        tifffile.imwrite(
            tmp_path / "A" / f"a{i}.tif",
            bands.astype(np.uint16),
            photometric="minisblack",
            planarconfig="separate",
        )
        tifffile.imwrite(tmp_path / "B" / f"b{i}.tif", phantom(rng, 24).astype(np.int16))

    def words(*shown):
        tiny = [
            "--size",
            16,
            "--epochs",
            1,
            "--decay-epochs",
            0,
            "--generator.width",
            2,
            "--discriminator.width",
            2,
        ]
        tiny += ["--discriminator.layers", 1, "--machine.threads", 1, "--out", tmp_path / "run"]
        return [str(word) for word in ("train", tmp_path / "A", tmp_path / "B", *tiny, *shown)]

    assert cli.run(words("--data.show-a", 3, 2, 13)) == 2
    assert not (tmp_path / "run").exists()
    assert cli.run(words("--data.show-a", 12, 6, 0)) == 0
    picture = newest_grid(Run(tmp_path / "run"))
    red, green, blue = picture[:, :16].reshape(-1, 3).mean(0)  # bands 12, 6 and 0: 4000, 2000 and 0 of 4095
    assert red > 235 and 110 < green < 145 and blue < 20
    grey = picture[:, 20:28]
    assert np.abs(grey - grey.mean(2, keepdims=True)).max() < 12  # one channel, as WebP stores it
    assert cli.run(words("--data.show-a", 13)) == 2
    assert cli.run(words("--data.show-a", 1)) == 0  # a finished run may show other channels
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]
    assert (config["show_a"], config["show_b"], config["channels_a"]) == ([1], [], 13)


def pix2pix_run(pairs: Path, out: Path, size: int, epochs: int, **more):
    """A run on pairs; the rate falls in the second half of the epochs."""
    settings = SMALL | {"generator": {"network": "resnet-6", "width": 16, "skips": True}} | more
    schedule = {"epochs": epochs / 2, "decay_epochs": epochs / 2}
    a, b = pairs / "A", pairs / "B"
    return train(a, b, out=out, method="pix2pix", size=size, device="cpu", settings=settings, **schedule)


@pytest.mark.slow
def test_a_minute_of_pix2pix_removes_noise_from_ct(tmp_path):
    """Noise of 80 HU: its mean absolute value is 64 HU. One range for both, so that the untouched scans count."""
    ct, test = ct_pairs(tmp_path / "ct", 60, 0), ct_pairs(tmp_path / "test", 8, 1)
    one_range = {"range_a": (-1300, 1300), "range_b": (-1300, 1300)}
    run = pix2pix_run(ct, tmp_path / "run", size=64, epochs=20, data=one_range)
    table = evaluate(run.path, test / "A", test / "B", paired=True)
    made, untouched = (row.values["MAE"].value for row in table.rows)
    assert untouched == pytest.approx(80 * (2 / np.pi) ** 0.5, rel=0.05)
    assert made < untouched / 2, (made, untouched)
    assert table.rows[0].values["PSNR (dB)"].value > table.rows[1].values["PSNR (dB)"].value + 2


def seasons_pairs(folder: Path, bits, count, first):
    for name in "AB":
        (folder / name).mkdir(parents=True)
    for scene in range(first, first + count):
        for name, image in zip("AB", landscape.draw(scene, 32, bits), strict=True):
            tifffile.imwrite(folder / name / f"{scene}.tif", image, photometric="rgb")
    return folder


@pytest.mark.slow
def test_12_bits_reach_the_psnr_of_8_bits(tmp_path):
    """The same landscapes, seeds and steps at both depths."""
    found = {}
    for bits in (8, 12):
        home = tmp_path / str(bits)
        pairs, test = (
            seasons_pairs(home / "train", bits, 120, 0),
            seasons_pairs(home / "test", bits, 24, 1000),
        )
        run = pix2pix_run(pairs, home / "run", size=32, epochs=16)
        table = evaluate(run.path, test / "A", test / "B", paired=True, metrics=["psnr", "ssim"])
        found[bits] = table.rows[0].values["PSNR (dB)"].value
        if bits == 12:
            translator = Translator.load(run.path, device="cpu")
            assert (translator.target.dtype, translator.target.high) == ("uint16", (4095.0,))
            outputs = [translator.array(tifffile.imread(path)) for path in (test / "A").iterdir()]
            assert min(len(np.unique(image)) for image in outputs) > 256
    assert abs(found[12] - found[8]) < 0.3, found
