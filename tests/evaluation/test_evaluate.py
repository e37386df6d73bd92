"""`twofold evaluate` end to end: what it finds, what it writes, what it refuses in one line."""

import json
import re
import shutil

import numpy as np
import pytest
import torch

from twofold.cli import app as cli
from twofold.data.cache import hash_file
from twofold.data.marker import write_marker
from twofold.errors import UsageError
from twofold.evaluation.evaluate import evaluate
from twofold.evaluation.features import inception_home
from twofold.files import write_atomically
from twofold.formats import images
from twofold.metrics import inception
from twofold.metrics.image import psnr
from twofold.networks.layers import initialise
from twofold.networks.registry import describe
from twofold.networks.resnet import ResnetGenerator
from twofold.runs import Run
from twofold.translation.header import Header
from twofold.translation.translator import Translator

COLOURS = np.array([[0, 0, 255], [255, 85, 0], [170, 255, 85]], np.uint8)


def translator(seed, direction):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ResnetGenerator(width=2, blocks=1)
        initialise(network, "normal", 0.2)
    return Translator(network, Header(describe(network), direction, 16, {"method": "cyclegan", "images": 8}))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """home/A, home/B, home/labels: ten images each of equal names, marked as answers; home/model.safetensors; home/run."""
    home = tmp_path_factory.mktemp("evaluate")
    write_marker(home, [("A", "B"), ("A", "labels")])
    rng = np.random.default_rng(0)
    for i in range(10):
        a = rng.integers(0, 256, (20, 18, 3), dtype=np.uint8)
        images.write(a, home / "A" / f"{i}.png")
        images.write((a // 2) + rng.integers(0, 60, a.shape, dtype=np.uint8), home / "B" / f"{i}.png")
        images.write(
            COLOURS[rng.integers(0, 3, (2, 2)).repeat(10, 0).repeat(9, 1)], home / "labels" / f"{i}.png"
        )
    translator(1, "ab").save(home / "model.safetensors")
    for k, way in enumerate(("ab", "ba")):
        translator(k, way).save(Run(home / "run").snapshot(8, way))
    return home


@pytest.fixture
def call(capsys):
    """Run `twofold evaluate`: its exit code, its lines, its complaint."""

    def make(*tokens):
        code = cli.run(["evaluate", *(str(token) for token in tokens)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return make


def figures(path, row=0):
    """A row of evaluation.json: name of the measure to (value, low, high)."""
    found = json.loads(path.read_text())
    one = found["rows"][row]
    return dict(zip(found["columns"], zip(one["values"], one["low"], one["high"], strict=True), strict=True))


def test_a_model_against_known_answers(call, home, tmp_path):
    code, said, _ = call(home / "model.safetensors", home / "A", home / "B", "-o", tmp_path / "e.json")
    assert code == 0
    assert "10 of 10 images have an answer of the same name" in said
    network = Translator.load(home / "model.safetensors", device="cpu")
    hand = [
        psnr(network(images.read(p, 3)), images.read(home / "B" / p.name, 3)) for p in images.find(home / "A")
    ]
    value, low, high = figures(tmp_path / "e.json")["PSNR (dB)"]
    assert value == pytest.approx(np.mean(hand), rel=1e-5)
    assert low < value < high
    floor = [psnr(images.read(p, 3), images.read(home / "B" / p.name, 3)) for p in images.find(home / "A")]
    assert figures(tmp_path / "e.json", 1)["PSNR (dB)"][0] == pytest.approx(np.mean(floor), rel=1e-5)
    assert max(len(line) for line in said.splitlines() if str(tmp_path) not in line) <= 80


def test_ready_translations_are_measured_as_the_model_is(call, home, tmp_path):
    network = Translator.load(home / "model.safetensors", device="cpu")
    for path in images.find(home / "A"):
        images.write(network(images.read(path, 3)), tmp_path / "made" / path.name)
    for subject, name in ((home / "model.safetensors", "model"), (tmp_path / "made", "ready")):
        assert call(subject, home / "A", home / "B", "-o", tmp_path / f"{name}.json")[0] == 0
    assert figures(tmp_path / "model.json") == figures(tmp_path / "ready.json")


def test_a_folder_of_runs_is_not_measured_as_translations(call, home, tmp_path):
    for name in ("one", "two"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").touch()
    code, _, message = call(tmp_path / "runs", home / "A", home / "B")
    assert code == 2 and "runs is a folder of runs; give one of them: " in message and "runs/one, " in message


def test_missing_translations_are_counted(call, home, tmp_path):
    shutil.copytree(home / "B", tmp_path / "made")
    (tmp_path / "made" / "3.png").unlink()
    (tmp_path / "made" / "4.png").rename(tmp_path / "made" / "other.png")
    assert call(tmp_path / "made", home / "A", home / "B", "-o", tmp_path / "e.json")[0] == 0
    note = json.loads((tmp_path / "e.json").read_text())["note"]
    assert "Measured: the 8 of 9 translations that have the name of one of 10 sources." in note


def test_deeper_translations_than_their_domain_are_refused(call, home, tmp_path):
    """12 bits stored in 16 would be divided by 257, which leaves 17 levels."""
    for path in images.find(home / "A"):
        images.write(images.read(path, 3).astype(np.uint16) * 16, tmp_path / "made" / path.name)
    assert "0.png has uint16 values" in refused(call, tmp_path / "made", home / "A", home / "B")


def test_images_of_one_pixel_have_no_structure(call, home, tmp_path):
    for number in range(5):
        images.write(np.full((1, 1, 3), 9 * number, np.uint8), tmp_path / "A" / f"{number}.png")
    code, said, _ = call(
        home / "model.safetensors", tmp_path / "A", tmp_path / "A", "-o", tmp_path / "e.json"
    )
    assert code == 0 and "Left out: structure needs 3 pixels a side, 0.png has 1×1." in said


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_a_full_disk_does_not_lose_the_table(call, home, tmp_path, monkeypatch, json_too):
    def full(*_):
        raise OSError(28, "No space left on device", "e.json")

    monkeypatch.setattr("twofold.evaluation.table.write_atomically", full)
    tokens = [home / "model.safetensors", home / "A", home / "B", "-o", tmp_path / "e.json", *json_too]
    code, said, complaint = call(*tokens)
    assert code == 1 and "PSNR (dB)" in said and "written:" not in said and "No space left" in complaint


def test_other_names_leave_the_distribution(call, home, tmp_path, scripted, small):
    shutil.copytree(home / "B", tmp_path / "B")
    for path in images.find(tmp_path / "B"):
        path.rename(path.with_name(f"other-{path.name}"))
    tokens = [home / "model.safetensors", home / "A", tmp_path / "B", "--features", scripted(small, "toy")]
    code, said, _ = call(*tokens, "-o", tmp_path / "e.json")
    assert code == 0 and "have an answer of the same name" not in said
    assert list(figures(tmp_path / "e.json")) == [
        "FID (toy)",
        "KID (toy)",
        "SWD",
        "luminance kept",
        "edges kept",
    ]
    assert "alignment needs 32 pixels a side, 0.png has 18×20" in said
    assert "FIDs of 10 images are biased upwards" in json.loads((tmp_path / "e.json").read_text())["note"]
    assert call(*tokens, "--paired")[0] == 2


def test_the_pairing_can_be_said(call, home, tmp_path, scripted, small):
    tokens = [home / "model.safetensors", home / "A", home / "B", "-o", tmp_path / "e.json"]
    assert call(*tokens, "--unpaired", "--features", scripted(small))[0] == 0
    assert "PSNR (dB)" not in figures(tmp_path / "e.json")
    (tmp_path / "one").mkdir()
    shutil.copy(home / "B" / "3.png", tmp_path / "one" / "3.png")
    tokens[2] = tmp_path / "one"
    assert (
        "1 of 10 images have an answer of the same name, the others are left out"
        in call(*tokens, "--paired")[1]
    )


def test_equal_names_alone_are_no_answers(call, home, tmp_path, scripted, small):
    shutil.copytree(home / "A", tmp_path / "A")
    tokens = [home / "model.safetensors", tmp_path / "A", home / "B", "--features", scripted(small, "toy")]
    code, said, _ = call(*tokens, "-o", tmp_path / "e.json")
    assert code == 0 and "10 of 10 images have the same name in A and B (--paired if those are" in said
    assert "have an answer" not in said and "PSNR (dB)" not in figures(tmp_path / "e.json")
    for i in range(6):
        (tmp_path / "A" / f"{i}.png").rename(tmp_path / "A" / f"other-{i}.png")
    assert "same name" not in call(*tokens)[1]
    assert "no answers are known (--paired, if images of equal names" in refused(
        call, *tokens, "--metrics", "psnr"
    )


def test_a_run_has_a_cycle_and_keeps_its_figures(call, home, tmp_path):
    run = shutil.copytree(home / "run", tmp_path / "run")
    (run / "config.yaml").write_text("format: 1\nmethod: cyclegan\na: A\nb: B\n")
    code, said, _ = call(run, home / "A", home / "B")
    assert code == 0, said
    (written,) = (run / "evaluations").glob("*.json")
    assert re.fullmatch(r"000000008-ab-A-B-\d{8}-\d{6}\.json", written.name)
    found = figures(written)
    assert found["cycle error (of 255)"][0] > 0
    assert {name for name in found if name.startswith("cycle error,")} == {
        *("cycle error, 8 bits", "cycle error, JPEG 75", "cycle error, noise of 2"),
    }
    document = json.loads(written.read_text())
    assert "The cycle" in document["summary"]
    assert (run / document["pictures"][0]["path"]).is_file() and written.with_suffix(".webp").is_file()
    page = (run / "report.html").read_text()
    assert "PSNR (dB)" in page and "data:image/webp" in page


def test_the_direction_turns_the_folders_around(call, home, tmp_path):
    tokens = [home / "run", home / "A", home / "B", "--metrics", "psnr", "-o", tmp_path / "e.json"]
    assert call(*tokens, "--direction", "ba")[0] == 0
    network = Translator.load(home / "run", direction="ba", device="cpu")
    hand = [
        psnr(network(images.read(p, 3)), images.read(home / "A" / p.name, 3)) for p in images.find(home / "B")
    ]
    assert figures(tmp_path / "e.json")["PSNR (dB)"][0] == pytest.approx(np.mean(hand), rel=1e-5)


def test_the_best_snapshot_can_be_asked_for(call, home, tmp_path):
    run = shutil.copytree(home / "run", tmp_path / "run")
    translator(7, "ab").save(Run(run).best("ab"))
    said = []
    for subject, more in ((run, ["--best"]), (Run(run).best("ab"), []), (run, [])):
        tokens = [subject, home / "A", home / "B", "-o", tmp_path / "e.json", *more]
        assert call(*tokens)[0] == 0
        said.append(figures(tmp_path / "e.json"))
    assert said[0] == said[1]  # no cycle: the way back was not chosen at that moment
    assert said[0]["PSNR (dB)"] != said[2]["PSNR (dB)"] and "cycle error (of 255)" in said[2]


def test_label_maps_are_found_and_scored(call, home, tmp_path):
    made = tmp_path / "made"
    for path in images.find(home / "labels"):
        image = images.read(path, 3)
        image[:5] = COLOURS[0] // 2
        images.write(image, made / path.name)
    code, said, _ = call(made, home / "A", home / "labels", "-o", tmp_path / "e.json")
    assert code == 0 and "The answers have 3 classes: each pixel has the class" in said
    truth = [images.read(p, 3) for p in images.find(home / "labels")]
    right = np.mean(
        [np.where(np.arange(20)[:, None, None] < 5, t == COLOURS[0], True).all(-1).mean() for t in truth]
    )
    assert figures(tmp_path / "e.json")["pixel accuracy"][0] == pytest.approx(right, rel=1e-5)
    rows = json.loads((tmp_path / "e.json").read_text())
    names = [row["name"] for row in rows["rows"]]
    counts = [sum((t == c).all(-1).sum() for t in truth) for c in COLOURS]
    floor = figures(tmp_path / "e.json", names.index("one label"))
    assert floor["pixel accuracy"][0] == pytest.approx(max(counts) / sum(counts), rel=1e-5)
    assert len(rows["classes"]) == 3


@pytest.mark.parametrize("way", ["ab", "ba"])
def test_pairs_in_one_place_are_measured_as_two_folders_are(call, home, tmp_path, way):
    """A folder of X.npy with X.png, and a list of the same files."""
    for path in images.find(home / "A"):
        images.write(images.read(path, 3), tmp_path / "both" / f"{path.stem}.npy")
        shutil.copy(home / "B" / path.name, tmp_path / "both" / path.name)
    lines = [f"both/{path.stem}.npy,both/{path.name}" for path in images.find(home / "A")]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    found = []
    for place in ([home / "A", home / "B"], [tmp_path / "both"], [tmp_path / "pairs.csv"]):
        code, _, complaint = call(home / "run", *place, "--direction", way, "-o", tmp_path / "e.json")
        assert code == 0, complaint
        found.append(figures(tmp_path / "e.json"))
    assert found[0] == found[1] == found[2] and "PSNR (dB)" in found[0]
    (tmp_path / "both" / "3.png").unlink()
    assert "no .png file for: 3.npy" in refused(call, home / "run", tmp_path / "both")


def test_json_alone_goes_to_standard_output(call, home):
    code, said, _ = call(home / "model.safetensors", home / "A", home / "B", "--metrics", "psnr", "--json")
    assert code == 0
    assert json.loads(said)["columns"] == ["PSNR (dB)"]


def refused(call, *tokens):
    """The one line that a wrong command gets."""
    code, _, complaint = call(*tokens)
    assert code == 2 and complaint.count("\n") == 1, complaint
    return complaint


def test_what_is_missing_is_named_in_one_line(call, home, tmp_path):
    model, a, b = home / "model.safetensors", home / "A", home / "B"
    assert "twofold evaluate RUN A B" in refused(call, model)
    assert "two folders" in refused(call, model, a)
    assert "does not exist" in refused(call, model, a, tmp_path / "none")
    assert "did you mean" in refused(call, model, a, b, "--metrics", "pnsr").lower()
    assert "not at" in refused(call, model, a, b, "--inception", tmp_path / "w.pth")
    gone = refused(call, model, a, b, "--metrics", "fid")
    assert str(inception_home()) in gone and inception.ADDRESS in gone and "--download-weights" in gone
    assert "lpips" in refused(call, model, a, b, "--metrics", "lpips")
    assert "needs 176 pixels" in refused(call, model, a, b, "--metrics", "ms-ssim")
    assert "a run with both directions" in refused(call, model, a, b, "--metrics", "cycle")
    assert "chosen no best" in refused(call, home / "run", a, b, "--best")


def test_too_few_images(call, home, tmp_path, scripted, small):
    for name in ("A", "B"):
        (tmp_path / name).mkdir()
        shutil.copy(home / name / "1.png", tmp_path / name / f"{name}.png")
    tokens = [home / "model.safetensors", tmp_path / "A", tmp_path / "B", "--features", scripted(small)]
    assert "at least 8 images of each, there are 1" in refused(call, *tokens, "--metrics", "kid")
    assert "no answers are known" in refused(call, *tokens, "--metrics", "psnr")
    code, said, _ = call(*tokens)
    assert code == 0 and "at least 8 images" in said


def test_answers_of_another_size(call, home, tmp_path):
    for path in images.find(home / "B"):
        images.write(images.read(path, 3)[:10], tmp_path / "B" / path.name)
    complaint = refused(call, home / "model.safetensors", home / "A", tmp_path / "B", "--paired")
    assert "has 18×20 pixels" in complaint and "B/0.png 18×10" in complaint and "--unpaired" in complaint


@pytest.mark.parametrize("side", [161, 175, 176])
def test_ms_ssim_is_measured_or_left_out_with_a_word(call, tmp_path, side):
    """One image of three is small, and not the first."""
    rng = np.random.default_rng(0)
    for name in ("A", "B"):
        for number, width in enumerate((180, side, 190)):
            image = rng.integers(0, 256, (180, width, 3), dtype=np.uint8)
            images.write(image, tmp_path / name / f"{number}.png")
    tokens = [tmp_path / "A", tmp_path / "A", tmp_path / "B", "--paired"]
    code, said, _ = call(*tokens, "-o", tmp_path / "e.json")
    assert code == 0 and "SSIM" in figures(tmp_path / "e.json")
    if side < 176:
        assert f"MS-SSIM needs 176 pixels a side, 1.png has {side}×180" in said
        assert "MS-SSIM" not in figures(tmp_path / "e.json")
        assert f"1.png has {side}×180" in refused(call, *tokens, "--metrics", "ms-ssim")
    else:
        assert "MS-SSIM" in figures(tmp_path / "e.json")


def test_weights_are_fetched_when_asked_and_kept(call, tmp_path, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(inception, "download", lambda path: write_atomically(path, b"w"))
    assert call("--download-weights")[0] == 0
    assert inception_home().read_bytes() == b"w"
    assert "is there already" in call("--download-weights")[1]


def test_evaluate_from_python(home, tmp_path):
    """A model in memory gives what its file gives; the table reads as text and as a dict."""
    told = []
    table = evaluate(translator(1, "ab"), home / "A", str(home / "B"), device="cpu", notify=told.append)
    assert told == ["10 of 10 images have an answer of the same name"]
    assert [row.name for row in table.rows] == ["translated", "untouched"]
    stored = evaluate(home / "model.safetensors", home / "A", home / "B", device="cpu")
    assert table.to_dict() == json.loads(table.to_json())
    assert stored.to_dict() == table.to_dict() | {"snapshots": stored.details["snapshots"]}
    assert stored.details["snapshots"][0]["hash"] == hash_file(home / "model.safetensors")
    best = table.best_row()
    assert best is not None and table.to_dict()["rows"][table.rows.index(best)]["best"]
    header, _, *rows = str(table).splitlines()
    assert header == "A to B, on 10 test images" and rows[0].startswith("PSNR (dB)") and "±" in rows[0]
    with pytest.raises(UsageError, match="no metric 'pnsr'; the metrics are psnr, ssim"):
        evaluate(home / "A", home / "A", home / "B", metrics=["pnsr"])
