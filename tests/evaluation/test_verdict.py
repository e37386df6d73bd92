"""What evaluate says: right or silent."""

import json
import math

import numpy as np
import pytest
import scipy.ndimage
from torch import nn

from twofold.cli import app as cli
from twofold.data.marker import write_marker
from twofold.errors import UsageError
from twofold.evaluation import measures
from twofold.evaluation.evaluate import evaluate
from twofold.evaluation.table import Column
from twofold.evaluation.verdict import verdict
from twofold.formats import images
from twofold.metrics.distribution import Estimate
from twofold.networks.registry import describe
from twofold.networks.resnet import ResnetGenerator
from twofold.runs import Run
from twofold.translation.header import Header
from twofold.translation.translator import Translator

COLUMNS = [Column("PSNR (dB)", "higher"), Column("SSIM", "higher"), Column("KID", "lower")]


def test_each_metric_is_named_with_what_its_interval_shows():
    found = {
        "PSNR (dB)": Estimate(8.54, 7.9, 9.2),
        "SSIM": Estimate(-0.02, -0.03, -0.01),
        "KID": Estimate(0.1, -0.1, 0.3),
    }
    assert verdict(COLUMNS, found, 7) == (
        "Against the untouched sources: better by PSNR (dB) (+8.54 ± 0.65); worse by SSIM (-0.020 ± 0.010);"
        " no difference shown by KID (+0.10 ± 0.20)."
    )


def test_lower_may_be_better():
    assert "better by KID" in verdict(COLUMNS, {"KID": Estimate(-0.5, -0.6, -0.4)}, 9)
    assert "worse by KID" in verdict(COLUMNS, {"KID": Estimate(0.5, 0.4, 0.6)}, 9)


def test_few_images_have_no_verdict():
    words = verdict(COLUMNS, {"SSIM": Estimate(0.5)}, 3)
    assert "too few images (3, 5 or more needed) for a verdict by SSIM (+0.500)" in words
    assert verdict(COLUMNS, {}, 3) == ""


def test_an_image_that_equals_its_answer_has_no_verdict():
    words = verdict(COLUMNS, {"PSNR (dB)": Estimate(math.inf), "SSIM": Estimate(0.2, 0.1, 0.3)}, 12)
    assert words == (
        "Against the untouched sources: better by SSIM (+0.20 ± 0.10); no verdict, as an image equals its answer, by"
        " PSNR (dB) (+∞)."
    )


# ---- on images

COUNT, SIDE = 12, 64


def drawing(seed):
    noise = np.random.default_rng(seed).normal(size=(SIDE, SIDE, 3))
    return np.clip(128 + 400 * scipy.ndimage.gaussian_filter(noise, (2, 2, 0)), 20, 235).astype(np.uint8)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """home/A: drawings. home/B: the same with light and dark exchanged, and a little noise."""
    home = tmp_path_factory.mktemp("verdict")
    write_marker(home, [("A", "B")])
    for i in range(COUNT):
        a, noise = drawing(i), np.random.default_rng(i).normal(size=(SIDE, SIDE, 3)) * 4
        images.write(a, home / "A" / f"{i:02}.png")
        images.write((255 - a + noise).clip(0, 255).astype(np.uint8), home / "B" / f"{i:02}.png")
    return home


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def run_of(path, there, back):
    """A run whose two networks do what these functions do."""
    networks = {}
    for way, function in (("ab", there), ("ba", back)):
        network = ResnetGenerator(width=2, blocks=1)
        Translator(network, Header(describe(network), way, SIDE)).save(Run(path).snapshot(8, way))
        networks[way] = function
    Run(path).config.write_text("format: 1\nmethod: cyclegan\na: A\nb: B\n")
    return networks


@pytest.fixture
def judged(home, tmp_path, monkeypatch):
    """`judged(there, back)` evaluates a run of two functions; returns the summary and the values."""

    def judge(there, back):
        functions = run_of(tmp_path / "run", there, back)
        load = Translator.load.__func__

        def stand_in(cls, path, **options):
            translator = load(cls, path, **options)
            translator.generator.forward = Apply(functions[translator.header.direction]).forward
            return translator

        monkeypatch.setattr(Translator, "load", classmethod(stand_in))
        table = evaluate(tmp_path / "run", home / "A", home / "B", device="cpu")
        return table.summary, {name: each.value for name, each in table.rows[0].values.items()}

    return judge


def test_a_copy_is_a_copy_and_hides_nothing(judged):
    """An identity network: JPEG damages what it copies, and that is all."""
    summary, values = judged(lambda x: x, lambda x: x)
    assert "no difference shown by PSNR (dB) (0.00), SSIM (0.00)" in summary
    assert "The translations are copies of their sources" in summary
    assert "survives JPEG" in summary and "hide" not in summary
    assert values["edges moved (px)"] == 0 and values["luminance kept"] == pytest.approx(1)


def test_a_one_way_copy_with_a_faint_change_is_a_copy(judged):
    """FastCUT that returns its input, a level or so brighter."""
    summary, _ = judged(lambda x: x + 0.008, lambda x: x)
    assert "are copies of their sources: pixels change by 1" in summary


def test_a_correct_inversion_is_better(judged):
    summary, values = judged(lambda x: -x, lambda x: -x)
    assert "better by PSNR (dB) (+" in summary and "SSIM (+" in summary and "worse" not in summary
    assert "copies" not in summary and "survives JPEG" in summary
    assert values["luminance kept"] == pytest.approx(-1, abs=0.01)
    assert values["edges kept"] > 0.99 and values["edges moved (px)"] < 0.1


def test_a_cycle_that_jpeg_breaks_hides_its_source(judged):
    """The right inversion in the high digits, and the source itself in a faint low signal."""

    def there(x):
        return (-x * 8).round() / 8 + x * 0.004

    def back(y):
        return (y - (y * 8).round() / 8) / 0.004

    summary, _ = judged(there, back)
    assert "the networks hide the source in an invisible signal" in summary and "survives" not in summary


def test_a_wrong_colour_is_worse(judged):
    summary, _ = judged(lambda x: x * 0 + 1, lambda x: x)
    assert "worse by PSNR (dB) (-2" in summary and "copies" not in summary


def test_edges_that_moved_are_counted_in_pixels(judged):
    _, values = judged(lambda x: -x.roll(3, -1), lambda x: -x.roll(-3, -1))
    assert values["edges moved (px)"] == pytest.approx(3, abs=0.1)


def test_many_images_have_the_cycle_of_a_few(judged, monkeypatch):
    monkeypatch.setattr(measures, "FEW", 5)
    calls = []
    summary, values = judged(lambda x: -x, lambda x: calls.append(1) or -x)
    assert len(calls) == 5 * 4 and "survives JPEG" in summary
    assert math.isfinite(values["cycle error (of 255)"])


# ---- files


def documents(run):
    return sorted((run / "evaluations").glob("*.json"))


def test_an_evaluation_overwrites_nothing_and_says_what_it_measured(home, tmp_path, capsys, monkeypatch):
    run_of(tmp_path / "run", None, None)
    monkeypatch.chdir(tmp_path)
    for metrics in (["psnr"], ["ssim"], ["structure", "alignment"]):
        tokens = [
            "evaluate",
            "run",
            str(home / "A"),
            str(home / "B"),
            "--metrics",
            *metrics,
            "--at",
            "native",
        ]
        monkeypatch.setattr("sys.argv", ["twofold", *tokens])
        assert cli.run(tokens) == 0
    files = documents(tmp_path / "run")
    assert len(files) == 3 and all(file.name.startswith("000000008-ab-A-B-") for file in files)
    newest = json.loads(Run(tmp_path / "run").evaluation.read_text())
    assert newest["columns"] == ["luminance kept", "edges kept", "edges moved (px)"]
    assert newest["command"].startswith("twofold evaluate run ") and newest["command"].endswith("--at native")
    assert newest["at"] == "native" and newest["date"][:2] == "20"
    assert newest["snapshots"][0]["file"] == "000000008-ab.safetensors" and newest["snapshots"][0]["hash"]
    assert len(newest["per_image"]["names"]) == COUNT
    assert len(newest["per_image"]["translated"]["edges kept"]) == COUNT
    one = next(
        each for each in map(json.loads, (file.read_text() for file in files)) if "SSIM" in each["columns"]
    )
    value, low, high = one["differences"]["SSIM"]
    assert low <= value <= high
    pairs = zip(one["per_image"]["translated"]["SSIM"], one["per_image"]["untouched"]["SSIM"], strict=True)
    assert value == pytest.approx(np.mean([x - y for x, y in pairs]), abs=1e-5)
    assert one["test"]["hash"] == newest["test"]["hash"]


def test_another_test_image_has_another_hash(home, tmp_path):
    first = evaluate(home / "A", home / "A", home / "B", metrics=["psnr"]).details["test"]["hash"]
    assert evaluate(home / "A", home / "A", home / "B", metrics=["psnr"]).details["test"]["hash"] == first
    changed = drawing(0)
    changed[0, 0] += 1
    for i, path in enumerate(images.find(home / "A")):
        images.write(changed if i == 0 else images.read(path), tmp_path / "A" / path.name)
    other = evaluate(home / "A", tmp_path / "A", home / "B", metrics=["psnr"], paired=True)
    assert other.details["test"]["hash"] != first


def test_the_newest_evaluation_is_found_by_its_name(tmp_path):
    run = Run(tmp_path)
    assert run.evaluation == tmp_path / "evaluation.json"
    for name in (
        "b-20260101-000000",
        "a-20260102-000000",
        "a-20260102-000000-10",
        "a-20260102-000000-9",
        "notes",
    ):
        (tmp_path / "evaluations").mkdir(exist_ok=True)
        (tmp_path / "evaluations" / f"{name}.json").write_text("{}")
    assert run.evaluation.stem == "a-20260102-000000-10"


# ---- bad input


def test_one_image_is_measured_without_a_verdict(home, tmp_path):
    for name in ("A", "B"):
        images.write(images.read(home / name / "00.png"), tmp_path / name / "00.png")
    table = evaluate(tmp_path / "A", tmp_path / "A", tmp_path / "B", paired=True)
    assert "too few images (1, 5 or more needed) for a verdict by PSNR (dB)" in table.summary
    assert table.to_dict()["rows"][0]["low"] == [None] * len(table.columns)


def test_translations_of_another_size_have_no_structure(home, tmp_path):
    for path in images.find(home / "A"):
        images.write(images.resize(images.read(path), 40, 48), tmp_path / "made" / path.name)
    for path in images.find(home / "B"):
        images.write(images.resize(images.read(path), 40, 48), tmp_path / "B" / path.name)
    tokens = (tmp_path / "made", home / "A", tmp_path / "B")
    with pytest.raises(
        UsageError, match=r"structure cannot be measured: .* 00\.png has 48×40 and its source 64×64"
    ):
        evaluate(*tokens, metrics=["structure"], paired=False)
    with pytest.raises(
        UsageError, match=r"the source .*A/00\.png has 64×64 pixels and the answer .*B/00\.png 48×40"
    ):
        evaluate(*tokens, metrics=["psnr"], paired=True)
