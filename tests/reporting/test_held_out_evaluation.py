"""A run that judges itself: figures, the best snapshot, the end for want of better ones, and all of it resumed."""

import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from twofold.errors import UsageError
from twofold.evaluation.heldout import Judge
from twofold.formats import images
from twofold.runs import Run, read_lines
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
    return ["--val", str(home / "a"), str(home / "b")]


@pytest.fixture(scope="session")
def judged(lab, val) -> Path:
    """The run of 12 images, judged at 4, 8 and 12 images and at the end."""
    out = lab.home / "judged"
    assert lab.run([*lab.tokens(out, evaluation__every=4), *val]).code == 0
    return out


def test_the_best_snapshot_is_that_of_the_best_figure(judged, val):
    rows = read_lines(Run(judged).evaluations)
    assert [row["images"] for row in rows] == [4, 8, 12]
    values = [row["values"]["psnr"] for row in rows]
    assert [row["best"] for row in rows] == [x == max(values[: i + 1]) for i, x in enumerate(values)]
    best = Run(judged).best("ab")
    assert read_header(best).origin["images"] == rows[int(np.argmax(values))]["images"]
    assert set(rows[0]["values"]) == {"psnr"}


def test_figures_are_those_of_the_translator(judged, val):
    """PSNR by hand, of the middle 16 pixels of images loaded at 18, which the run is judged by."""
    rows = read_lines(Run(judged).evaluations)
    best = max(rows, key=lambda row: row["values"]["psnr"])
    translator, found = Translator.load(judged, best=True, device="cpu"), []
    for i in range(2):
        a, b = (images.resize(images.read(Path(f) / f"{i}.png"), 18, 18)[1:17, 1:17] for f in val[1:])
        error = np.mean((translator(a, at="native").astype(float) - b) ** 2)  # at load size already
        found.append(10 * np.log10(255**2 / error))
    assert best["values"]["psnr"] == pytest.approx(np.mean(found), abs=1e-3)


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
    monkeypatch.setattr(Judge, "figures", lambda self, *_: {"psnr": next(falling)})
    falling = iter([10.0, 9.0, 8.0, 7.0, 6.0, 5.0])
    out, patient = tmp_path / "run", ["--early-stop", "2"]
    ended = command(*lab.tokens(out, evaluation__every=2), *val, *patient)
    assert ended.code == 0
    assert "stopped early at 6 images" in ended.output
    assert Run(out).states()[-1][0] == Run(out).snapshots("ab")[-1][0] == 6
    assert read_lines(Run(out).metrics)[-1]["images"] == 6
    assert "stopped early at 6 images" in command("train", "--resume", out).output
    assert read_header(Run(out).best("ab")).origin["images"] == 2
    assert "stopped early at 10 images" in command("train", "--resume", out, "--early-stop", "4").output
    assert [row["best"] for row in read_lines(Run(out).evaluations)] == [True, False, False, False, False]


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
    rows = read_lines(Run(tmp_path / "run").evaluations)
    assert [row["images"] for row in rows] == [6, 12]
    assert rows[0]["best"] and list(rows[0]["values"]) == ["kid"]
    assert rows[1]["best"] == (rows[1]["values"]["kid"] < rows[0]["values"]["kid"])


def test_without_either_nothing_is_the_best_and_that_is_said(lab, many, tmp_path, command):
    a, b = (many(tmp_path / name, count) for name, count in (("VA", 2), ("VB", 3)))
    said = command(*lab.tokens(tmp_path / "run"), "--val", a, b)
    assert said.output.count("no best snapshot will be chosen: the held-out images have no ground truth") == 1
    assert not Run(tmp_path / "run").evaluations.exists()
    assert (
        "no best snapshot"
        not in command(*lab.tokens(tmp_path / "other", evaluation__every=0), "--val", a, b).output
    )


@pytest.mark.parametrize(
    ("metric", "words"),
    [("psnr", "needs held-out pairs"), ("kid", "needs evaluation.features")],
)
def test_a_metric_that_cannot_be_is_refused_before_anything_is_written(lab, tmp_path, command, metric, words):
    said = command(*lab.tokens(tmp_path / "run", evaluation__metric=metric))
    assert said.code == 2 and words in said.output
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_best_says_so(finished, tmp_path):
    with pytest.raises(UsageError, match="has chosen no best ab snapshot; leave out --best"):
        Translator.load(finished, best=True)
