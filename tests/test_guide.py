"""The guide's examples run as they stand."""

import inspect
import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
import torch

from twofold.cli import app as cli
from twofold.cli.evaluate import evaluate
from twofold.evaluation.settings import MetricName
from twofold.seasons import dataset as seasons

GUIDE = Path(__file__).parents[1] / "docs" / "guide"


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (GUIDE / page).read_text(encoding="utf-8"), re.S)


def test_adding_a_method(capsys):
    method, use = blocks("adding-a-method.md")
    assert sum(bool(line.strip()) for line in method.splitlines()) < 60
    names = {"__name__": "guide"}
    torch.manual_seed(0)
    for block in (method, use):
        exec(compile(block, "adding-a-method.md", "exec"), names)
    assert capsys.readouterr().out.startswith("20 {'gan_ab': ")
    trainer, images = names["trainer"], names["images"]
    before = names["l1"](
        trainer.method.gen_ab(images.a.flip(3)), trainer.method.gen_ab(images.a).flip(3)
    ).item()
    for _ in range(40):
        trainer.step(images, 2e-3)
    after = names["l1"](
        trainer.method.gen_ab(images.a.flip(3)), trainer.method.gen_ab(images.a).flip(3)
    ).item()
    assert after < 0.8 * before, "the wish for geometry consistency moves nothing"


@pytest.mark.parametrize("page", sorted(path.name for path in GUIDE.glob("*.md")))
def test_links_and_pictures_are_there(page):
    text = (GUIDE / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (GUIDE / target).exists(), target


def typed(page):
    """The commands of a page, as tokens."""
    lines = (GUIDE / page).read_text(encoding="utf-8").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("    twofold ")]


def figures_of(text, name):
    """What a table in `text` says of a measure: (value, half its interval) a row."""
    (line,) = re.findall(rf"^ *{re.escape(name)}  .*", text, re.M)
    return [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) ± ([\d.]+)", line)]


def test_evaluating(tmp_path, monkeypatch, capsys):
    """The page's commands run, on a run of a few images; the table has the rows and the floors that the page shows."""
    make, train, measure, _, papers, best = typed("evaluating.md")
    page = (GUIDE / "evaluating.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    small = ["--epochs", "0.2", "--decay-epochs", "0", "--eval-every", "6", "--generator.width", "4"]
    settings = [str(GUIDE / "small.yaml") if each.endswith("small.yaml") else each for each in train]
    for tokens in (make, [*settings, *small]):
        assert cli.run(tokens) == 0
    capsys.readouterr()
    assert cli.run(measure) == 0
    said = capsys.readouterr().out
    shown = page[page.index("    7 images have") : page.index("Read it against")]
    for line in shown.splitlines():
        name = line.strip().split("   ")[0]
        assert name in said or "dB better" in name or line.startswith(("    PSNR (dB): ", "    JPEG: ")), line
    for name in ("PSNR (dB)", "SSIM"):
        assert figures_of(shown, name)[1] == figures_of(said, name)[1]  # the untouched sources
    assert cli.run(best) == 0
    assert cli.run(["evaluate", "sick/healthy", *train[1:3], *papers[4:]]) == 2  # no weights here
    assert "--download-weights" in capsys.readouterr().err


def test_every_measure_and_option_is_explained():
    page = (GUIDE / "evaluating.md").read_text(encoding="utf-8")
    for name in get_args(MetricName):
        assert f"`{name}`" in page, name
    options = set(re.findall(r"`(--[a-z]+(?:-[a-z]+)*)[ `]", page)) - {
        "--eval-every",
        "--early-stop",
        "--val",
    }
    known = {f"--{name.replace('_', '-')}" for name in inspect.signature(evaluate).parameters}
    assert {"--features", "--inception", "--segmentation"} <= options
    assert options - {"--class", "--unpaired"} <= known, options - known


# ---- which method, which loss, which critic


@pytest.fixture(scope="module")
def which(load_benchmark):
    return load_benchmark("which_method")


@pytest.fixture(scope="module")
def pictures(which, tmp_path_factory):
    """Few of the pictures that the rows are trained on, in `which`."""
    home = tmp_path_factory.mktemp("which")
    seasons.make(home / "which" / "seasons", 8, 48, 0, lambda line: None)
    which.make_masks(home / "which" / "seasons" / "trainA", home / "which" / "roofs")
    return home


def rows_of_the_page():
    """Each row's name and what it adds, in the page's order: a heading, a picture, and options in backticks."""
    text = (GUIDE / "which-method.md").read_text(encoding="utf-8")
    parts = re.findall(r"^### [^\n]*?(?:`([^`]*)`)?\n\n!\[[^]]+\]\(which-(.+?)\.webp\)\n", text, re.M)
    return [(name, shlex.split(options)) for options, name in parts]


def test_the_page_shows_the_rows_of_the_script(which):
    assert rows_of_the_page() == list(which.ROWS.items())
    files = {path.name for path in GUIDE.glob("which-*.webp")}
    assert files == {f"which-{name}.webp" for name in which.ROWS}
    assert sum((GUIDE / name).stat().st_size for name in files) < 1_000_000


def test_every_row_can_be_trained(which, pictures, capsys, monkeypatch):
    monkeypatch.chdir(pictures)
    for name in which.ROWS:
        assert cli.run([*which.command(name, Path("which")), "--dry-run"]) == 0, name
        assert f"which/{name} (new)" in capsys.readouterr().out


def test_every_command_of_the_page_is_understood(which, pictures, capsys, monkeypatch):
    monkeypatch.chdir(pictures)
    monkeypatch.setattr(which, "GUIDE", Path("docs/guide"))
    text = (GUIDE / "which-method.md").read_text(encoding="utf-8")
    commands = [shlex.split(line) for line in re.findall(r"^    twofold (.*)$", text, re.M)]
    trained = [words for words in commands if words[0] == "train"]
    assert which.command("cyclegan", Path("which")) in trained
    assert ["data", "make", "seasons", "which/seasons", "--count", "480", "--size", "48"] in commands
    for words in trained:
        there = [word.replace("docs/guide", str(GUIDE)) for word in words]
        assert cli.run([*there, "--dry-run"]) == 0, words
    others = {tuple(words[:1]) for words in commands} - {("train",)}
    assert others == {("data",), ("translate",), ("evaluate",)}
    assert capsys.readouterr().err == ""
