"""A run that judges itself: figures, the best snapshot, the end for want of better ones, and all of it resumed."""

import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from twofold.data import answers
from twofold.errors import UsageError
from twofold.evaluation.evaluate import evaluate
from twofold.evaluation.heldout import NO_EVALUATION, Judge, Measured
from twofold.formats import images
from twofold.metrics import inception
from twofold.metrics.inception import Inception
from twofold.runs import DIRECTIONS, Run, read_lines
from twofold.training.records import best_of, out_of_patience
from twofold.translation.header import read_header
from twofold.translation.translator import Translator


@pytest.fixture(scope="session")
def val(lab, tmp_path_factory):
    """Two folders of two held-out images each, of equal names; as options of a training."""
    home = tmp_path_factory.mktemp("val")
    rng = np.random.default_rng(0)
    for side in "ab":
        for i in range(2):
            images.write(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8), home / side / f"{i}.png")
    return ["--val", str(home / "a"), str(home / "b"), "--paired"]


@pytest.fixture(scope="session")
def judged(lab, val) -> Path:
    """The run of 12 images, judged at 4, 8 and 12 images and at the end."""
    out = lab.home / "judged"
    assert lab.run([*lab.tokens(out, evaluation__every=4), *val]).code == 0
    return out


def test_the_best_snapshot_is_that_of_the_best_figure(judged, val):
    for way in DIRECTIONS:
        rows = rows_of(judged, way)
        assert [row["images"] for row in rows] == [4, 8, 12]
        values = [row["values"]["psnr"] for row in rows]
        assert [row["best"] for row in rows] == [x == max(values[: i + 1]) for i, x in enumerate(values)]
        best = Run(judged).best(way)
        assert read_header(best).origin["images"] == rows[int(np.argmax(values))]["images"]
        assert read_header(best).direction == way
        assert set(rows[0]["values"]) == {"psnr"}


def rows_of(out, way):
    return [row for row in read_lines(Run(out).evaluations) if row["direction"] == way]


def test_figures_are_those_of_the_translator(judged, val):
    """PSNR by hand, of the middle 16 pixels of images loaded at 18, which the run is judged by."""
    for way, folders in zip(DIRECTIONS, (val[1:3], val[2:0:-1]), strict=True):
        best = max(rows_of(judged, way), key=lambda row: row["values"]["psnr"])
        found = by_hand(Translator.load(judged, direction=way, best=True, device="cpu"), folders)
        assert best["values"]["psnr"] == pytest.approx(np.mean(found), abs=1e-3)


def by_hand(translator, folders):
    found = []
    for i in range(2):
        a, b = (images.resize(images.read(Path(f) / f"{i}.png"), 18, 18)[1:17, 1:17] for f in folders)
        error = np.mean((translator(a, at="native").astype(float) - b) ** 2)
        found.append(10 * np.log10(255**2 / error))
    return found


def test_kills_change_nothing(lab, judged, val, tmp_path):
    out = tmp_path / "run"
    tokens = [*lab.tokens(out, evaluation__every=4), *val]
    for kill in [("after step", 5), ("in snapshot", 1), ("in state.store", 2)]:
        assert lab.run(tokens, kill).code == -signal.SIGKILL
    assert lab.run(tokens).code == 0
    assert lab.outcome(out) == lab.outcome(judged)
    assert "evaluations.jsonl" in lab.outcome(out)


def test_evaluating_does_not_touch_the_training(lab, judged, val, tmp_path, command):
    assert command(*lab.tokens(tmp_path / "run", evaluation__every=0), *val).code == 0
    assert not Run(tmp_path / "run").evaluations.exists()
    assert not Run(tmp_path / "run").best("ab").exists()
    mine, its = (load_file(Run(out).state(12) / "state.safetensors") for out in (tmp_path / "run", judged))
    assert mine.keys() == its.keys()
    assert all(torch.equal(mine[name], its[name]) for name in mine)


def test_a_run_ends_when_nothing_gets_better(lab, val, tmp_path, command, monkeypatch):
    monkeypatch.setattr(Judge, "measure", lambda *_: Measured({"psnr": next(falling)}))
    falling = iter(value for value in (10.0, 9.0, 8.0, 7.0, 6.0, 5.0) for _ in DIRECTIONS)
    out, patient = tmp_path / "run", ["--early-stop", "2"]
    ended = command(*lab.tokens(out, evaluation__every=2), *val, *patient)
    assert ended.code == 0
    assert "stopped early at 6 images" in ended.output
    assert Run(out).states()[-1][0] == Run(out).snapshots("ab")[-1][0] == 6
    assert read_lines(Run(out).metrics)[-1]["images"] == 6
    assert "stopped early at 6 images" in command("train", "--resume", out).output
    assert read_header(Run(out).best("ab")).origin["images"] == 2
    assert "stopped early at 10 images" in command("train", "--resume", out, "--early-stop", "4").output
    for way in DIRECTIONS:
        assert [row["best"] for row in rows_of(out, way)] == [True, False, False, False, False]


def test_a_run_goes_on_while_one_direction_gets_better():
    better, worse = {"value": 1.0, "images": 8, "since": 0}, {"value": 1.0, "images": 2, "since": 3}
    assert not out_of_patience({"ab": better, "ba": worse}, 2)
    assert out_of_patience({"ab": worse, "ba": worse}, 3) and not out_of_patience({"ab": worse}, 4)
    assert not out_of_patience({}, 1) and not out_of_patience({"ab": worse}, None)
    assert best_of({"best": {"value": 20.0, "images": 8, "since": 1}}) == {  # a state of 0.1
        "ab": {"value": 20.0, "images": 8, "since": 1, "kept": True}
    }
    assert best_of({"best": {"ab": worse}}) == {"ab": worse} and best_of({}) == {}


def test_a_run_begun_before_runs_judged_themselves_goes_on_without(lab, val, tmp_path, command):
    out = tmp_path / "run"
    assert command(*lab.tokens(out, evaluation__every=0), *val).code == 0
    config = Run(out).config.read_text()
    Run(out).config.write_text(config.replace("metric: psnr", "metric: auto").replace("every: 0", "every: 4"))
    assert Run(out).config.read_text().count("metric: auto") == 1
    assert command("train", "--resume", out, "--epochs", "3").code == 0
    assert read_lines(Run(out).metrics)[-1]["images"] == 15
    assert not Run(out).evaluations.exists()


class Features(nn.Module):
    def forward(self, x):
        return torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3)), x.amax((1, 2, 3))], 1)


def network(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have torch.export's files
        torch.jit.script(Features()).save(path)
    return path


def test_without_answers_a_feature_network_judges(lab, many, tmp_path, command):
    a, b = (many(tmp_path / name, 9) for name in ("VA", "VB"))
    (b / "0.png").rename(b / "other.png")
    tokens = [*lab.tokens(tmp_path / "run", evaluation__every=6), "--val", a, b]
    said = command(*tokens, "--evaluation.features", network(tmp_path / "net.pt"))
    assert said.code == 0, said.output
    rows = rows_of(tmp_path / "run", "ab")
    assert [row["images"] for row in rows] == [6, 12]
    assert rows[0]["best"] and list(rows[0]["values"]) == ["kid", "structure"]
    kept = [row["values"]["structure"] >= 0.3 for row in rows]
    assert rows[1]["best"] == (
        (not kept[1], rows[1]["values"]["kid"]) < (not kept[0], rows[0]["values"]["kid"])
    )


def test_without_either_the_sliced_wasserstein_distance_judges(lab, many, tmp_path, command):
    a, b = (many(tmp_path / name, count) for name, count in (("VA", 8), ("VB", 9)))
    said = command(*lab.tokens(tmp_path / "run", evaluation__every=6), "--val", a, b)
    assert said.code == 0 and "imprecise" not in said.output, said.output
    for way in DIRECTIONS:
        rows = rows_of(tmp_path / "run", way)
        assert [row["images"] for row in rows] == [6, 12]
        assert list(rows[0]["values"]) == ["swd", "structure"] and rows[0]["best"]
        low, high = rows[0]["intervals"]["swd"]
        assert 0 <= low < rows[0]["values"]["swd"] < high
        assert read_header(Run(tmp_path / "run").best(way)).direction == way
    again = command(*lab.tokens(tmp_path / "again", evaluation__every=6), "--val", a, b)
    assert again.code == 0
    assert Run(tmp_path / "again").evaluations.read_bytes() == Run(tmp_path / "run").evaluations.read_bytes()


def test_evaluate_gives_the_distance_that_the_run_wrote(lab, many, tmp_path, command):
    """Of images of the size of training."""
    folders = [many(tmp_path / name, count, 16) for name, count in (("VA", 5), ("VB", 6))]
    tokens = lab.tokens(tmp_path / "run", evaluation__every=12, data__load_size=16)
    assert command(*tokens, "--val", *folders).code == 0
    (row,) = rows_of(tmp_path / "run", "ab")
    table = evaluate(tmp_path / "run", *folders, metrics=["swd"], device="cpu")
    found = table.rows[0].values["SWD"]
    assert found.value == pytest.approx(row["values"]["swd"], rel=1e-4)
    assert (found.low, found.high) == pytest.approx(row["intervals"]["swd"], rel=1e-4)


def test_few_held_out_images_are_named_and_one_has_no_interval(lab, many, tmp_path, command):
    a, b = (many(tmp_path / name, count) for name, count in (("VA", 1), ("VB", 3)))
    tokens = [*lab.tokens(tmp_path / "run", evaluation__every=12), "--val", a, b]
    said = command(*tokens)
    assert (
        said.output.count("A or B has only 1 held-out image: the SWD that chooses the best snapshots is") == 1
    )
    (row,) = rows_of(tmp_path / "run", "ab")
    assert row["values"]["swd"] > 0 and "intervals" not in row
    assert "imprecise" not in command(*tokens, "--eval-every", 0, "--out", tmp_path / "other").output


def test_without_held_out_images_nothing_is_the_best_and_that_is_said(lab, tmp_path, command):
    said = command(*lab.tokens(tmp_path / "run"))
    line = "no best snapshot will be chosen: A or B has no held-out images; give --val A B"
    assert said.output.count(line) == 1
    assert not Run(tmp_path / "run").evaluations.exists()
    assert line not in command(*lab.tokens(tmp_path / "other", evaluation__every=0)).output


def test_snapshots_that_keep_structure_come_first():
    judge = object.__new__(Judge)
    judge.metric, judge.structure = "swd", 0.3

    def better(swd, structure, best, kept=True):
        return judge.better({"swd": swd, "structure": structure}, {"value": best, "kept": kept, "since": 0})

    assert judge.better({"swd": 0.5, "structure": 0.0}, NO_EVALUATION)
    assert better(0.4, 0.9, 0.5) and not better(0.6, 0.9, 0.5)
    assert better(0.9, 0.9, 0.5, kept=False) and not better(0.1, 0.05, 0.5)
    assert better(0.4, 0.05, 0.5, kept=False) and not better(0.6, 0.05, 0.5, kept=False)
    assert not better(float("nan"), 0.9, 0.5) and not better(float("nan"), 0.9, 0.5, kept=False)


def test_a_best_snapshot_without_structure_is_named(lab, many, tmp_path, command, monkeypatch):
    monkeypatch.setattr(Judge, "measure", lambda *_: Measured({"swd": 0.5, "structure": 0.05}))
    a, b = (many(tmp_path / name, 8) for name in ("VA", "VB"))
    (b / "0.png").rename(b / "other.png")
    ended = command(*lab.tokens(tmp_path / "run", evaluation__every=6), "--val", a, b)
    for way in DIRECTIONS:
        line = f"best-{way}: no evaluated snapshot keeps the edges of its source, so the lowest SWD of all was chosen"
        assert ended.output.count(line) == 1
    monkeypatch.setattr(Judge, "measure", lambda *_: Measured({"swd": 0.5, "structure": 0.5}))
    ended = command(*lab.tokens(tmp_path / "other", evaluation__every=6), "--val", a, b)
    assert ended.code == 0 and "no evaluated snapshot" not in ended.output


@pytest.mark.parametrize("metric", ["fid", "kid"])
def test_inception_judges_a_run(lab, many, tmp_path, command, monkeypatch, metric):
    """With random weights in the file that `twofold evaluate --download-weights` would fetch."""
    home = tmp_path / "cache"
    monkeypatch.setenv("TWOFOLD_CACHE", str(home))
    a, b = (many(tmp_path / name, 8) for name in ("VA", "VB"))
    tokens = [*lab.tokens(tmp_path / "run", evaluation__every=12, evaluation__metric=metric), "--val", a, b]
    ended = command(*tokens)
    assert ended.code == 2 and "run `twofold evaluate --download-weights`" in ended.output
    torch.manual_seed(0)
    home.mkdir(exist_ok=True)
    torch.save(Inception().state_dict(), home / inception.NAME)
    ended = command(*tokens)
    assert ended.code == 0, ended.output
    for way in DIRECTIONS:
        (row,) = rows_of(tmp_path / "run", way)
        assert list(row["values"]) == [metric, "structure"] and np.isfinite(row["values"][metric])
        assert Run(tmp_path / "run").best(way).is_file()


def test_equal_names_of_held_out_images_are_answers_only_if_said(lab, val, tmp_path, command, monkeypatch):
    told = "if those of equal names are answers, add --paired"
    folders = [*val[:3], "--dry-run"]
    ended = command(*lab.tokens(tmp_path / "run"), *folders)
    assert told in ended.output and "metric: swd" in ended.output
    ended = command(*lab.tokens(tmp_path / "run", evaluation__metric="psnr"), *folders)
    assert ended.code == 2 and "--val folders with equal names and --paired" in ended.output
    monkeypatch.setattr(answers, "have_answers", lambda a, b: (a.name, b.name) == ("a", "b"))
    assert "metric: psnr" in command(*lab.tokens(tmp_path / "run"), *folders).output


def test_paired_without_pairs_is_refused(lab, many, tmp_path, command):
    ended = command(*lab.tokens(tmp_path / "run"), "--paired")
    assert ended.code == 2 and "give --val A B; to train on pairs: --method pix2pix" in ended.output
    a, b = (many(tmp_path / name, count) for name, count in (("VA", 2), ("VB", 3)))
    ended = command(*lab.tokens(tmp_path / "run"), "--val", a, b, "--paired")
    assert ended.code == 2 and "only one of them has 2" in ended.output


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("psnr", "needs held-out pairs"),
        ("kid", "needs evaluation.features"),
        ("swd", "needs held-out images of A and of B"),
    ],
)
def test_a_metric_that_cannot_be_is_refused_before_anything_is_written(lab, tmp_path, command, metric, words):
    said = command(*lab.tokens(tmp_path / "run", evaluation__metric=metric))
    assert said.code == 2 and words in said.output
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_best_says_so(finished, tmp_path):
    with pytest.raises(UsageError, match="has chosen no best ab snapshot; leave out --best"):
        Translator.load(finished, best=True)
