"""Commands run in this process, a tiny run to use them on, and helpers for their files."""

import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from twofold.cli import app as cli
from twofold.formats import images
from twofold.runs import Run

TINY = {
    "--size": "32",
    "--generator.width": "2",
    "--discriminator.width": "2",
    "--discriminator.layers": "1",
    "--machine.precision": "float32",
    "--machine.threads": "1",
    "--training.samples": "1",
    "--training.snapshot-every": "100",
    "--training.sample-every": "100",
    "--epochs": "1",
    "--decay-epochs": "0",
}


class Result(SimpleNamespace):
    """What a command gave back: code, out, err."""

    @property
    def line(self):
        """The one line on standard error."""
        assert self.err.startswith("twofold: ") and self.err.count("\n") == 1, self.err
        return self.err.removeprefix("twofold: ").rstrip()


@pytest.fixture
def call(capsys):
    """Run a command in this process: call("train", "A", "B").code."""

    def make(*tokens):
        capsys.readouterr()
        code = cli.run([str(token) for token in tokens])
        return Result(code=code, **capsys.readouterr()._asdict())

    return make


def options(**changes):
    """The options of a run that takes a second, one epoch of five images, with these changes."""
    changed = {
        f"--{name.replace('__', '.').replace('_', '-')}": str(value) for name, value in changes.items()
    }
    return [word for pair in (TINY | changed).items() for word in pair]


@pytest.fixture
def tiny():
    """Makes the options of a tiny run: tiny(size=64, data__resize="crop")."""
    return options


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The built-in pictures and a run on them, made by commands: made.pictures, made.run, made.again."""
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWOFOLD_CACHE", str(home / "cache"))
        assert (
            cli.run(["data", "make", "seasons", str(home / "seasons"), "--count", "5", "--size", "32"]) == 0
        )
        command = ["train", *(str(home / "seasons" / name) for name in ("trainA", "trainB"))]
        command += ["--out", str(home / "run"), *options()]
        assert cli.run(command) == 0
    return SimpleNamespace(pictures=home / "seasons", run=home / "run", command=command, cache=home / "cache")


@pytest.fixture
def folders(made, tmp_path, monkeypatch):
    """Copies of both training folders in a current folder of one's own: A and B."""
    monkeypatch.chdir(tmp_path)
    for name in "AB":
        shutil.copytree(made.pictures / f"train{name}", tmp_path / name)
    return tmp_path


def modification_times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def unchanged():
    """A context manager that fails if a file below a folder is written: `with unchanged(folder):`."""

    @contextmanager
    def check(folder):
        before = modification_times(folder)
        yield
        assert modification_times(folder) == before, "something was written"

    return check


@pytest.fixture
def refuses(call, unchanged):
    """Runs a command that must fail, write nothing and print one line; gives the line."""

    def run(*tokens, code=2):
        with unchanged(Path()):
            result = call(*tokens)
        assert result.code == code and "Traceback" not in result.err
        return result.line

    return run


@pytest.fixture
def noise():
    """Writes a picture of noise and gives its path: noise(path, height, width, channels)."""

    def write(path, height=20, width=24, channels=3):
        rng = np.random.default_rng(len(str(path)))
        path.parent.mkdir(parents=True, exist_ok=True)
        images.write(rng.integers(0, 256, (height, width, channels), dtype=np.uint8), path)
        return path

    return write


@pytest.fixture
def model(made, tmp_path, monkeypatch):
    """A trained model, alone in a current folder of one's own."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(Run(made.run).newest_snapshot("ab"), "model.safetensors")
    return Path("model.safetensors")
