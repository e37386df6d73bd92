"""`twofold.evaluate` of domains that are not 8-bit pictures: CT in Hounsfield units, bands, floats."""

import json
import shutil

import numpy as np
import pytest
import tifffile
import torch

from twofold.cli import app as cli
from twofold.errors import TwofoldError, UsageError
from twofold.evaluation.evaluate import evaluate
from twofold.formats.contract import Contract
from twofold.formats.scale import Geometry
from twofold.networks.layers import initialise
from twofold.networks.registry import describe
from twofold.networks.resnet import ResnetGenerator
from twofold.runs import Run
from twofold.translation.header import Header
from twofold.translation.translator import Translator

CT = Contract("int16", 1, (-1024.0,), (3071.0,), "percentiles")
MR = Contract("uint16", 1, (0.0,), (4095.0,), "bits")
BANDS = Contract("uint16", 13, (0.0,), (16383.0,), "bits")
RGB = Contract()


def translator(source, target, direction="ab", seed=1):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ResnetGenerator(
            in_channels=source.channels, out_channels=target.channels, width=2, blocks=1
        )
        initialise(network, "normal", 0.2)
    geometry = Geometry("none", 16, 16)
    return Translator(network, Header.of(describe(network), direction, source, target, geometry))


def draw(folder, contract, seed, count=10, shape=(20, 16)):
    """Images that fill a contract's range, and go a little over it."""
    rng, (low, high) = np.random.default_rng(seed), (min(contract.low), max(contract.high))
    folder.mkdir(parents=True)
    limits = np.iinfo(contract.dtype)
    for i in range(count):
        waves = rng.uniform(low - 50, high + 50, (*shape, contract.channels))
        image = waves.clip(limits.min, limits.max).astype(contract.dtype)
        axes = {} if contract.channels == 1 else {"planarconfig": "contig"}
        kind = "rgb" if contract.channels == 3 else "minisblack"
        tifffile.imwrite(folder / f"{i}.tif", image.squeeze(), photometric=kind, **axes)
    return folder


def stored(folder):
    images = [tifffile.imread(path) for path in sorted(folder.iterdir())]
    return [image if image.ndim == 3 else image[..., None] for image in images]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("depth")
    draw(home / "ct", CT, 1)
    draw(home / "ct2", CT, 2)
    draw(home / "mr", MR, 3)
    draw(home / "bands", BANDS, 4)
    return home


def test_ct_is_measured_in_hounsfield_units(home):
    """PSNR and MAE by numpy; the untouched sources count, because both domains are CT."""
    model = translator(CT, CT)
    table = evaluate(model, home / "ct", home / "ct2", paired=True)
    sources, answers = stored(home / "ct"), stored(home / "ct2")
    for row, outputs in zip(table.rows, ([model.array(x) for x in sources], sources), strict=True):
        pairs = [(x.astype(float), y.astype(float)) for x, y in zip(outputs, answers, strict=True)]
        mae = np.mean([np.abs(x - y).mean() for x, y in pairs])
        psnr = np.mean([10 * np.log10(4095**2 / np.square(x - y).mean()) for x, y in pairs])
        assert row.values["MAE"].value == pytest.approx(mae, rel=1e-9)
        assert row.values["PSNR (dB)"].value == pytest.approx(psnr, rel=1e-9)
    assert [row.name for row in table.rows] == ["translated", "untouched"]
    assert any("Hounsfield" in note and "int16" in note for note in table.notes)
    assert list(table.rows[0].values) == ["PSNR (dB)", "SSIM", "MAE", "luminance kept", "edges kept"]


def test_other_units_are_not_compared_with_the_sources(home):
    model = translator(CT, MR)
    table = evaluate(model, home / "ct", home / "mr", paired=True)
    assert [row.name for row in table.rows] == ["translated"]
    outputs, answers = [model.array(x) for x in stored(home / "ct")], stored(home / "mr")
    mae = np.mean([np.abs(x.astype(int) - y).mean() for x, y in zip(outputs, answers, strict=True)])
    assert table.rows[0].values["MAE"].value == pytest.approx(mae, rel=1e-9)
    assert table.sheet is not None and table.sheet.shape[2] == 3


def test_structure_is_compared_within_the_ranges(home):
    """Band by band: a mean of 13 bands against one channel."""
    model = translator(BANDS, CT)
    table = evaluate(model, home / "bands", home / "ct", metrics=["structure"])
    sources, outputs = stored(home / "bands"), [model.array(x) for x in stored(home / "bands")]
    found = [np.corrcoef(x.mean(2).ravel(), y.ravel())[0, 1] for x, y in zip(sources, outputs, strict=True)]
    assert table.rows[0].values["luminance kept"].value == pytest.approx(np.mean(found), rel=1e-6)


def test_the_command_prints_units(home, tmp_path, capsys):
    translator(CT, MR).save(tmp_path / "model.safetensors")
    tokens = [str(tmp_path / "model.safetensors"), str(home / "ct"), str(home / "mr")]
    assert cli.run(["evaluate", *tokens, "--paired", "-o", str(tmp_path / "e.json")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "MAE" in shown and "units of the stored uint16 values" in shown
    assert "MAE" in json.loads((tmp_path / "e.json").read_text())["columns"]


def test_8_bits_have_no_units_unless_they_are_asked_for(tmp_path):
    model = translator(RGB, RGB)
    a, b = (draw(tmp_path / name, RGB, seed) for name, seed in (("a", 1), ("b", 2)))
    assert "MAE" not in evaluate(model, a, b, paired=True).rows[0].values
    table = evaluate(model, a, b, metrics=["mae"], paired=True)
    outputs, answers = [model.array(x) for x in stored(a)], stored(b)
    mae = np.mean([np.abs(x.astype(int) - y).mean() for x, y in zip(outputs, answers, strict=True)])
    assert table.rows[0].values["MAE"].value == pytest.approx(mae, rel=1e-9)


def test_ready_translations_are_measured_in_their_own_units(home, tmp_path):
    """The range is found in the answers: 12 bits and a little more are 14 bits."""
    rng = np.random.default_rng(0)
    (tmp_path / "made").mkdir()
    for path in (home / "mr").iterdir():
        noise = rng.integers(0, 40, (20, 16)).astype(np.uint16)
        tifffile.imwrite(tmp_path / "made" / path.name, tifffile.imread(path) // 2 + noise)
    table = evaluate(tmp_path / "made", home / "ct", home / "mr", paired=True)
    pairs = list(zip(stored(tmp_path / "made"), stored(home / "mr"), strict=True))
    mae = np.mean([np.abs(x.astype(int) - y).mean() for x, y in pairs])
    assert table.rows[0].values["MAE"].value == pytest.approx(mae, rel=1e-9)
    psnr = np.mean(
        [10 * np.log10((2**14 - 1) ** 2 / np.square(x.astype(float) - y).mean()) for x, y in pairs]
    )
    assert table.rows[0].values["PSNR (dB)"].value == pytest.approx(psnr, rel=1e-9)


@pytest.fixture
def run(home, tmp_path):
    """A run of 13 bands to CT with both directions."""

    def make(**data):
        run = Run(tmp_path / "run")
        translator(BANDS, CT, "ab", 1).save(run.snapshot(8, "ab"))
        translator(CT, BANDS, "ba", 2).save(run.snapshot(8, "ba"))
        run.config.write_text(json.dumps({"format": 1, "method": "cyclegan", "data": data}))
        return run.path

    return make


def test_a_deep_cycle_takes_rounding_and_noise_in_place_of_jpeg(home, run):
    table = evaluate(run(), home / "bands", home / "ct", metrics=["cycle"])
    assert [column.name for column in table.columns] == [
        *("cycle error (of 255)", "cycle error, stored as int16", "cycle error, noise of 2"),
    ]
    assert any("with noise" in note and "JPEG" not in note for note in table.notes)
    assert "JPEG" not in table.summary


def test_features_need_one_or_three_channels(home, run, scripted, small):
    """13 bands have no features until the user has chosen three to show."""
    network, path = scripted(small, "toy"), run()
    table = evaluate(path, home / "bands", home / "ct", direction="ba", features=network)
    assert "FID (toy)" not in table.rows[0].values
    assert any("--data.show-a 0 1 2" in note and "A has 13" in note for note in table.notes)
    with pytest.raises(UsageError, match="need images of 1 or 3 channels"):
        evaluate(path, home / "bands", home / "ct", direction="ba", features=network, metrics=["kid"])
    forward = evaluate(path, home / "bands", home / "ct", features=network, metrics=["kid"])
    assert np.isfinite(forward.rows[0].values["KID (toy)"].value)
    shutil.rmtree(path)
    chosen = evaluate(run(show_a=[3, 2, 1]), home / "bands", home / "ct", direction="ba", features=network)
    assert np.isfinite(chosen.rows[0].values["FID (toy)"].value)


@pytest.mark.parametrize("named", [[3, 2, 99], ["x"], "text", [-1], [True]])
def test_impossible_channels_in_config_are_ignored(home, run, named):
    assert (
        evaluate(run(show_a=named), home / "bands", home / "ct", metrics=["psnr"], paired=True).sheet
        is not None
    )


def test_bad_files_are_named_in_one_line(home, tmp_path):
    values = np.full((20, 16), 0.5, np.float32)
    floats = Contract("float32", 1, (0.0,), (1.0,), "settings")
    for name, bad in (("a", values), ("b", np.where(np.arange(16) == 3, np.nan, values))):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "x.tif", bad.astype(np.float32))
    with pytest.raises(TwofoldError, match=r"b/x\.tif: .*NaN"):
        evaluate(translator(floats, floats), tmp_path / "a", tmp_path / "b", paired=True)
    with pytest.raises(TwofoldError, match=r"bands/0\.tif: .*13 channels"):
        evaluate(translator(CT, CT), home / "bands", home / "ct", paired=True)
