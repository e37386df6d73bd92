"""Every command and the Python example of the README, run as they stand there, on tiny pictures."""

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

README = (Path(__file__).parents[1] / "README.md").read_text()
UNENDING = ("monitor",)
"""Commands that go on until somebody stops them; tests/serving has them."""

FROM_ELSEWHERE = (["data", "download"],)
"""Commands that need a network; tests/data/test_download.py has them."""

TINY = {
    "DATA__SIZE": "32",
    "GENERATOR__WIDTH": "2",
    "DISCRIMINATOR__WIDTH": "2",
    "TRAINING__EPOCHS": "0.5",
    "TRAINING__DECAY_EPOCHS": "0.5",
    "MACHINE__THREADS": "1",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Every line of a plain block that starts with `twofold`, without its remark."""
    lines = [line for block in blocks("") for line in block.splitlines() if line.startswith("twofold ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with what the README takes for granted: horses, zebras, photos, a checkpoint."""
    seasons.make(tmp_path / "made", 8, 36, 0, lambda line: None)
    for source, name in (("trainA", "horses"), ("trainB", "zebras"), ("valA", "photos")):
        (tmp_path / "made" / source).rename(tmp_path / name)
    for source, name in (("testA", "test-horses"), ("testB", "test-zebras")):
        (tmp_path / "made" / source).rename(tmp_path / name)
    for source in images.find(tmp_path / "test-horses"):
        halves = [images.read(source), images.read(tmp_path / "test-zebras" / source.name)]
        images.write(np.concatenate(halves, 1), tmp_path / "pairs" / source.name)
    next((tmp_path / "photos").iterdir()).rename(tmp_path / "horse.jpg")
    torch.save(to_original(ResnetGenerator(width=2, blocks=6)), tmp_path / "latest_net_G_A.pth")
    monkeypatch.chdir(tmp_path)
    for name, value in TINY.items():
        monkeypatch.setenv(f"TWOFOLD_SET_{name}", value)
    return tmp_path


def test_commands(folders: Path) -> None:
    ran = commands()
    assert {"train", "translate", "info", "import", "report", "presets", "data"} <= {each[0] for each in ran}
    for tokens in ran:
        if tokens[0] in UNENDING or tokens[:2] in FROM_ELSEWHERE:
            continue
        small = ["--count", "2", "--size", "16"] if tokens[:2] == ["data", "make"] else []
        ill = (0, 1) if tokens[0] == "doctor" else (0,)  # a run of one step may well be called ill
        assert cli.run(tokens + small) in ill, tokens
    assert len(list((folders / "as-zebras").rglob("*.png"))) == 3
    assert (folders / "runs/h2z/report.html").stat().st_size > 10_000
    assert (folders / "model.safetensors").is_file()


def test_python_example(folders: Path) -> None:
    (example,) = blocks("python")
    assert "epochs=20" in example
    exec(compile(example.replace("epochs=20", "epochs=1"), "README.md", "exec"), {})
    assert (folders / "zebra.png").stat().st_size > 0


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["demo", "--quick", "--out", str(tmp_path / "demo")]) == 0
    said = capsys.readouterr().out
    for word in ("translated", "colours matched", "untouched", "PSNR", "SSIM", "report.html"):
        assert word in said
    assert (tmp_path / "demo/run/evaluation.json").is_file()
    assert "true winter" in (tmp_path / "demo/run/report.html").read_text()
    assert (
        cli.run(["demo", "--quick", "--out", str(tmp_path / "demo")]) == 0
    )  # goes on, and has nothing left to do
