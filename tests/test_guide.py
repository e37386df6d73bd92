"""The guide's examples run as they stand."""

import ast
import inspect
import re
import shlex
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from twofold import config as configs
from twofold.cli import app as cli
from twofold.cli.evaluate import evaluate
from twofold.evaluation.doctor.examine import examine
from twofold.evaluation.settings import MetricName
from twofold.exchange.original import to_original
from twofold.formats import images
from twofold.networks.resnet import ResnetGenerator
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
    assert after < 0.8 * before, "the geometry loss has no effect"


@pytest.mark.parametrize("page", sorted(path.name for path in GUIDE.glob("*.md")))
def test_links_and_pictures_are_there(page):
    text = (GUIDE / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (GUIDE / target).exists(), target


def typed(page):
    """The commands of a page, as tokens."""
    lines = (GUIDE / page).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("    twofold ")]


def words_of(text):
    """The words of an output without its figures, line breaks and rules."""
    return re.sub(r"\d[\d.]*", "#", " ".join(text.replace("─", "").split()))


def figures_of(text, name):
    """The figures of a metric in a table: (value, half its interval) of each row."""
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
    printed = capsys.readouterr().out
    shown = page[page.index("    7 of 7 images have") : page.index("Compare with `untouched`")]
    table, _, rest = shown.partition("    Against the untouched")  # another run, another verdict
    notes = rest[rest.index("    - ") :]
    for part in (table, "Against the untouched sources:", notes):
        assert words_of(part) in words_of(printed)
    for name in ("PSNR (dB)", "SSIM"):
        assert figures_of(shown, name)[1] == figures_of(printed, name)[1]  # the untouched sources
    assert cli.run(best) == 0
    assert cli.run(["evaluate", "sick/healthy", *train[1:3], *papers[4:]]) == 2  # no weights here
    assert "--download-weights" in capsys.readouterr().err


def test_every_measure_and_option_is_explained():
    page = (GUIDE / "evaluating.md").read_text(encoding="utf-8")
    for name in get_args(MetricName):
        assert f"`{name}`" in page, name
    of_train = {"--eval-every", "--early-stop", "--labels-b", "--val"}
    options = set(re.findall(r"`(--[a-z]+(?:-[a-z]+)*)[ `]", page)) - of_train
    known = {f"--{name.replace('_', '-')}" for name in inspect.signature(evaluate).parameters}
    assert {"--features", "--inception", "--lpips", "--paired", "--unpaired"} <= options
    assert options - {"--unpaired"} <= known, options - known


def pattern(node):
    """A regular expression for the strings that an expression of a Python file may give."""
    match node:
        case ast.Constant(value=str(text)):
            return re.escape(text)
        case ast.JoinedStr(values=values):
            return "".join(map(pattern, values))
        case ast.BinOp(left=left, right=right):
            return pattern(left) + pattern(right)
        case ast.IfExp(body=body, orelse=orelse):
            return f"(?:{pattern(body)}|{pattern(orelse)})"
    return ".+"


def test_the_doctors_words_are_those_of_the_code():
    """Every sentence and advice that the page shows, with whatever figures, is one that the doctor can print."""
    folder = Path(inspect.getfile(examine)).parent
    nodes = [
        node for file in folder.glob("*.py") for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    ]
    texts = [pattern(node) for node in nodes if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp)]
    texts = [re.compile(text) for text in texts if len(text.replace(".+", "")) > 20]
    page = (GUIDE / "reading-a-run.md").read_text(encoding="utf-8")
    shown = re.findall(
        r"^    (?:watch:|trouble:|    try:|No problem).*\n(?:    (?!    try:)[ \w].*\n)*", page, re.M
    )
    paragraphs = [
        each for block in shown for each in re.split(r"^    (?:watch: |trouble:|    try:)", block, flags=re.M)
    ]
    paragraphs = [" ".join(each.split()) for each in paragraphs if each.strip()]
    assert len(paragraphs) >= 15
    for each in paragraphs:
        assert any(text.fullmatch(each) for text in texts), each


# ---- which method, which loss, which discriminator


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


def page_of_methods():
    return (GUIDE / "which-method.md").read_text(encoding="utf-8")


def rows_of_the_page():
    """Each row's name and what it adds, in the page's order: a heading, a picture, and indented options."""
    entry = r"^### [^\n]+\n\n!\[[^]]+\]\(which-(.+?)\.webp\)\n\n((?:    [^\n]+\n)*)"
    return [(name, shlex.split(options)) for name, options in re.findall(entry, page_of_methods(), re.M)]


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
    commands = [shlex.split(line) for line in re.findall(r"^    twofold (.*)$", page_of_methods(), re.M)]
    trained = [words for words in commands if words[0] == "train"]
    assert which.command("cyclegan", Path("which")) in trained
    assert ["data", "make", "seasons", "which/seasons", "--count", "480", "--size", "48"] in commands
    for words in trained:
        there = [word.replace("docs/guide", str(GUIDE)) for word in words]
        assert cli.run([*there, "--dry-run"]) == 0, words
    others = {tuple(words[:1]) for words in commands} - {("train",)}
    assert others == {("data",), ("translate",), ("evaluate",)}
    assert capsys.readouterr().err == ""


FOLDERS = {"--method pix2pix": ["valA", "valB"], "--method pix2pix --data.lab": ["valA"]}
"""Options that need other folders than trainA and trainB."""

MULTIPLE = ["--size", "64", "--data.load-size", "64", "--generator.network", "unet"]
"""A U-Net needs a multiple of 32 pixels."""


def test_every_option_of_the_tables_is_understood(which, pictures, capsys, monkeypatch):
    monkeypatch.chdir(pictures)
    decisions, _ = page_of_methods().split("## Appendix")
    options = re.findall(r"^\|[^|]*\|[^|]*?(?:\|[^|]*?)?`(--[^`]+)`", decisions, re.M)
    assert len(options) > 20
    for option in options:
        folders = [f"which/seasons/{name}" for name in FOLDERS.get(option, ["trainA", "trainB"])]
        tokens = shlex.split(option) + (MULTIPLE if option in FOLDERS else [])
        config = [] if "--preset" in tokens else ["-c", str(GUIDE / "which.yaml")]
        assert cli.run(["train", *folders, *config, *tokens, "--dry-run"]) == 0, (
            option,
            capsys.readouterr().err,
        )


def test_the_table_of_figures_has_every_row(which):
    table = page_of_methods().split("| run | PSNR (dB) | SSIM |")[1].split("### ")[0]
    assert len(re.findall(r"^\| [^|]+ \| \d\d\.\d \| 0\.\d\d \|", table, re.M)) == len(which.ROWS)


# ---- all pages

PAGES = [*(GUIDE.parents[1]).glob("*.md"), *GUIDE.parent.rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_narrow_and_keep_code_on_one_line(page):
    for line in page.read_text(encoding="utf-8").splitlines():
        assert len(line) <= 120, line
        plain = re.sub(r"critic[-_ ]steps|optim\.critic_lr", "", line)
        assert "critic" not in plain, line
        assert line.count("`") % 2 == 0 or line.startswith(("```", "    ")), line


def test_the_log_has_an_index():
    text = (GUIDE.parent / "LOG.md").read_text(encoding="utf-8")
    entries = re.findall(r"^## (\d+)\. (.+)$", text, re.M)
    listed = re.findall(r"^\| (\d+) \| \[[^]]+\]\(#(.+?)\) \|", text, re.M)
    anchors = [
        re.sub(r"[^\w -]", "", f"{number} {title}".lower()).replace(" ", "-") for number, title in entries
    ]
    assert [number for number, _ in entries] == [str(1 + place) for place in range(len(entries))]
    assert [anchor for _, anchor in listed] == anchors


def test_bring_your_checkpoint(tmp_path, monkeypatch, capsys):
    """The page's commands and its Python example run, on a small network and two images."""
    monkeypatch.chdir(tmp_path)
    torch.save(to_original(ResnetGenerator(width=2, blocks=1)), "latest_net_G_A.pth")
    Path("checkpoints/maps_cyclegan").mkdir(parents=True)
    for name in "AB":
        shutil.copy("latest_net_G_A.pth", f"checkpoints/maps_cyclegan/latest_net_G_{name}.pth")
    for name in ("photos/a.png", "horse.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        images.write(np.full((20, 24, 3), 99, np.uint8), Path(name))
    commands = typed("bring-your-checkpoint.md")
    assert [tokens[0] for tokens in commands] == [
        *("info", "import", "translate", "translate", "import", "translate", "export")
    ]
    for tokens in commands:
        assert cli.run(tokens) == 0, capsys.readouterr().err
    (example,) = blocks("bring-your-checkpoint.md")
    exec(compile(example, "bring-your-checkpoint.md", "exec"), {})
    assert Path("zebra.png").is_file() and Path("latest_net_G.pth").is_file()


def test_fine_tuning(tmp_path, monkeypatch, capsys):
    """The page's commands run, shortened, and its Python too; every option of its tables is known."""
    many, first, few, second, longer, profile = typed("fine-tuning.md")
    monkeypatch.chdir(tmp_path)
    cut = {"60": "12", "14": "0.5", "16": "3", "docs/guide/small.yaml": str(GUIDE / "small.yaml")}
    narrow = ["--generator.width", "4", "--discriminator.width", "4", "--epochs", "0.5", "--eval-every", "0"]
    for tokens in (
        many,
        [*first, *narrow, "--decay-epochs", "0"],
        few,
        [*second, *narrow, "--decay-epochs", "0"],
    ):
        assert cli.run([cut.get(token, token) for token in tokens]) == 0
    printed = capsys.readouterr().out
    assert "starting from trained weights: gen_ab from 000000006-ab.safetensors" in printed
    assert "disc_a, disc_b from the state at 6 images" in printed
    assert cli.run([cut.get(token, token) for token in longer]) == 0
    assert (
        "new schedule: 0.0006 up to image 6, then linear to 0 at image 12; the learning"
        in capsys.readouterr().out
    )
    assert cli.run([cut.get(token, token) for token in profile]) == 0
    assert len([*Path("pictures/second/profile").iterdir()]) == 1
    names = {"__name__": "guide"}
    (block,) = blocks("fine-tuning.md")
    exec(compile(block.replace("decay_epochs=1", "decay_epochs=0"), "fine-tuning.md", "exec"), names)
    assert names["run"].newest_snapshot("ab").name == "000000012-ab.safetensors"
    assert "000000012-ab.safetensors" in capsys.readouterr().out
    page = (GUIDE / "fine-tuning.md").read_text(encoding="utf-8")
    own = set(re.findall(r"--((?:training|optim|cyclegan)\.[a-z-]+)", page))
    assert {name.replace("-", "_") for name in own} <= {name for name, _ in configs.flatten(configs.schema())}
