"""Every command, option and Python example of the README, run as it stands there, on tiny pictures."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from twofold.cli import app as cli
from twofold.exchange.original import to_original
from twofold.formats import images
from twofold.networks.resnet import ResnetGenerator
from twofold.seasons import dataset as seasons

ROOT = Path(__file__).parents[1]
WEB_RUNTIME = ROOT / "node_modules" / "onnxruntime-web"
README = (ROOT / "README.md").read_text(encoding="utf-8")

ENDLESS = ("monitor", "serve")
"""Commands that run until somebody stops them; tests/serving has them."""

ONLINE = (["data", "download"],)
"""Commands that need a network; tests/data/test_download.py has them."""

TESTED_APART = ("demo",)
"""`test_demo` runs it with --quick."""

TINY = {
    "DATA__SIZE": "32",
    "GENERATOR__WIDTH": "2",
    "DISCRIMINATOR__WIDTH": "2",
    "TRAINING__EPOCHS": "0.5",
    "TRAINING__DECAY_EPOCHS": "0.5",
    "MACHINE__THREADS": "1",
}

SMALLER = {
    "--size": "32",
    "--epochs": "0.5",
    "--decay-epochs": "0.5",
    "--generator.width": "2",
    "--discriminator.width": "2",
}
"""Values in place of the README's, so that a command takes seconds."""

SHORTHAND = {
    "twofold train A B --out RUN": "twofold train horses zebras --out runs/short --dry-run",
    "twofold translate RUN IMAGES -o OUT": "twofold translate runs/h2z photos -o out",
    "twofold doctor RUN": "twofold doctor runs/h2z",
    "twofold train NEW_A NEW_B --resume RUN": "twofold train horses zebras --resume runs/h2z",
}
"""Commands of the text with names in capitals, and what they stand for here."""

FILLED = {
    "FILE": "settings.yaml",
    "FOLDER": "masks",
    "FOLDER_A": "test-horses",
    "FOLDER_B": "test-zebras",
}

OTHER_VERBS = {"--at native": ["translate", "runs/h2z", "photos", "-o", "out"]}
"""Options that are not of `train`, and a command that takes them."""

ALONE = {
    "--data.lab": ["horses"],
    "--pairs halves": ["pairs"],
    "--pairs jpg:png": ["suffixes"],
    "--direction ba": ["pairs"],
    "--method pix2pix": ["pairs"],
}
"""Options for one folder."""

TOGETHER = {"--data.masks-a FOLDER": "--cyclegan.mask 10", "--cyclegan.mask 10": "--data.masks-a FOLDER"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def lines(program: str) -> list[list[str]]:
    """Every command of a plain block that starts with `program`, without its remark."""
    joined = [line for block in blocks("") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in joined if line.startswith(f"{program} ")]


def quoted() -> list[str]:
    """Code in the text and the tables."""
    text = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def shrunk(tokens: list[str]) -> list[str]:
    """A command that does the same with less."""
    small = ["--count", "8"] if tokens[:2] == ["data", "make"] else []
    pairs = zip(["", *tokens], tokens, strict=False)
    return [SMALLER.get(before, token) for before, token in pairs] + small


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the images and files that the README's commands name."""
    seasons.make(tmp_path / "horse2zebra", 8, 36, 0, lambda line: None)
    made = tmp_path / "horse2zebra"
    for source, name in (
        ("trainA", "horses"),
        ("trainB", "zebras"),
        ("testA", "test-horses"),
        ("testB", "test-zebras"),
    ):
        copy(made / source, tmp_path / name)
    copy(made / "valA", tmp_path / "photos")
    for source in images.find(made / "testA"):
        here, there = images.read(source), images.read(made / "testB" / source.name)
        images.write(np.concatenate([here, there], 1), tmp_path / "pairs" / source.name)
        images.write(here, tmp_path / "suffixes" / f"{source.stem}.jpg")
        images.write(there, tmp_path / "suffixes" / f"{source.stem}.png")
    for source in images.find(made / "trainA"):
        images.write(np.full((36, 36, 1), 255, np.uint8), tmp_path / "masks" / source.name)
    next((tmp_path / "photos").iterdir()).rename(tmp_path / "horse.jpg")
    (tmp_path / "settings.yaml").write_text("optim: {lr: 1e-4}\n")
    torch.save(to_original(ResnetGenerator(width=2, blocks=6)), tmp_path / "latest_net_G_A.pth")
    monkeypatch.chdir(tmp_path)
    for name, value in TINY.items():
        monkeypatch.setenv(f"TWOFOLD_SET_{name}", value)
    return tmp_path


def copy(source: Path, target: Path) -> None:
    target.mkdir()
    for file in images.find(source):
        (target / file.name).write_bytes(file.read_bytes())


def test_commands(folders: Path) -> None:
    """Each in the README's order, so that the pasted example runs from start to end."""
    commands = [tokens[1:] for tokens in lines("twofold")]
    assert {"train", "translate", "info", "import", "export", "report", "presets", "data"} <= {
        each[0] for each in commands
    }
    assert commands[0] == ["data", "make", "seasons", "landscapes", "--size", "64", "--seed", "2"]
    for tokens in commands:
        if tokens[0] in ENDLESS + TESTED_APART or tokens[:2] in ONLINE:
            continue
        if tokens[-1].endswith(".html"):
            if not WEB_RUNTIME.is_dir():
                continue  # it is npm's; tests/exporting/test_page.py says so
            tokens = [*tokens, "--ort", str(WEB_RUNTIME)]
        problems = (0, 1) if tokens[0] == "doctor" else (0,)  # a run of one step may well have some
        assert cli.run(shrunk(tokens)) in problems, tokens
    assert len(list((folders / "as-zebras").rglob("*.png"))) == 3
    assert len(list((folders / "winter").rglob("*.png"))) == 4
    assert (folders / "runs/h2z/report.html").stat().st_size > 10_000
    assert (folders / "runs/winter/report.html").stat().st_size > 10_000
    assert (folders / "model.safetensors").is_file()
    left = {each.name for each in (folders / "runs/winter").iterdir()} - {"lock"}
    listed = README[README.index("## What a run leaves") : README.index("## Stop and resume")]
    assert {
        name.rstrip("/") for name in re.findall(r"^\| `(.*?)` \|", listed.replace("`, `", "` |\n| `"), re.M)
    } == left


def test_commands_of_the_text(folders: Path) -> None:
    """Commands between backticks: run, if they are whole; else with names of this folder in place of capitals."""
    commands = {code for code in quoted() if code.startswith("twofold ") and len(code.split()) > 2}
    helps = {"twofold train --help", "twofold train --help-all"}
    assert commands == helps | set(SHORTHAND)
    for command in helps:
        assert cli.run(command.split()[1:]) == 0
    assert cli.run(["train", "horses", "zebras", "--out", "runs/h2z"]) == 0
    for command in SHORTHAND.values():
        assert cli.run(shlex.split(command)[1:]) in ((0, 1) if " doctor " in command else (0,)), command


def test_options_of_the_text(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each option between backticks is taken by `train`, or by the verb that it is for."""
    options = {code for code in quoted() if code.startswith("-")}
    assert len(options) > 15
    assert cli.run(["train", "horses", "zebras", "--out", "runs/h2z"]) == 0
    for option in options:
        tokens = shlex.split(f"{option} {TOGETHER.get(option, '')}")
        tokens = [FILLED.get(token, token) for token in tokens]
        if option in OTHER_VERBS:
            assert cli.run([*OTHER_VERBS[option], *tokens]) == 0, option
        elif tokens[0] == "--log":
            assert cli.run(["train", "horses", "zebras", "--log", "csv", "--dry-run"]) == 0
        else:
            method = ["--method", "pix2pix"] if option in ALONE and "--method" not in tokens else []
            extra = [] if "--dry-run" in tokens else ["--dry-run"]
            given = ALONE.get(option, ["horses", "zebras"])
            assert cli.run(["train", *given, *method, *tokens, *extra]) == 0, (
                option,
                capsys.readouterr().err,
            )


def test_make_and_pip_commands() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [tokens[:2] for tokens in lines("make")] == [["make", "demo"], ["make", "test"]]
    for _, target, *_ in lines("make"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    ((*_, option, constraints, place),) = lines("pip")
    assert (option, place) == ("-c", ".")
    assert (ROOT / constraints).is_file()


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_python_example(folders: Path) -> None:
    (example,) = blocks("python")
    assert "epochs=20" in example
    exec(compile(example.replace("epochs=20", "epochs=1"), "README.md", "exec"), {})
    assert (folders / "zebra.png").stat().st_size > 0


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["demo", "--quick", "--out", str(tmp_path / "demo")]) == 0
    printed = capsys.readouterr().out
    for word in ("translated", "colours matched", "untouched", "PSNR", "SSIM", "report.html"):
        assert word in printed
    assert [*tmp_path.glob("demo/run/evaluations/demo-testA-testB-*.json")]
    assert "true winter" in (tmp_path / "demo/run/report.html").read_text()
    assert (
        cli.run(["demo", "--quick", "--out", str(tmp_path / "demo")]) == 0
    )  # a second time: resumes and finishes
