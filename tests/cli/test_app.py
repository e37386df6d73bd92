"""The parser, the help pages and the exit codes."""

import errno
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import twofold
from twofold import config
from twofold.cli import app as cli
from twofold.cli import options
from twofold.formats import images
from twofold.runs import Run


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ("trian A B", 'Did you mean "train"'),
        ("train A", "A does not exist; give two folders of images or a dataset root"),
        ("train A B C", "too many arguments: C; see `twofold train --help`"),
        ("train --resume run --out run", "leave out --out"),
        ("train --resume nowhere", "nowhere is not a run folder"),
        ("translate", "MODEL is missing; see `twofold translate --help`"),
        ("translate m", "--out is missing"),
        ("train A B -- --size 64", "--size stands after --, where options end; write it before --"),
        ("train A B -- --size=64", "--size stands after --"),
        ("train A B --val", "--val needs a value"),
        ("evaluate run A B --metrics psnr,sim", 'Did you mean "ssim"'),
        ("train A B --lr", "--lr needs a value; see `twofold train --help`"),
        ("translate m x -o y --format gif", 'Choose from: "png"'),
        ("translate m x -o y --directon ba", "Did you mean --direction"),
        ("info", "MODEL is missing"),
        ("info nowhere", "nowhere does not exist"),
        ("info . --direction up", 'Choose from: "ab", "ba"'),
        ("report nowhere", "nowhere is not a run folder"),
        ("data chekc A", 'Did you mean "check"'),
        ("data check", "A is missing"),
        ("data check nowhere", "does not exist"),
        ("data check . --size 0", "size must be at least 1, not 0"),
        ("data make winter out", "seasons"),
        ("data make seasons out --count many", "--count must be a whole number, not many"),
        ("--nonsense", "--nonsense"),
    ],
)
def test_a_wrong_command_is_one_line_and_code_2(refuses, tmp_path, monkeypatch, tokens, message):
    monkeypatch.chdir(tmp_path)
    assert message in refuses(*tokens.split())


@pytest.mark.parametrize(
    "given", [["--metrics", "psnr,ssim"], ["--metrics=psnr,ssim"], ["--metrics", "psnr,", "ssim"]]
)
def test_lists_are_separated_by_commas_or_spaces(given):
    _, bound, _ = cli.parser([]).parse_args(["evaluate", "run", "A", "B", *given], exit_on_error=False)
    assert bound.arguments["metrics"] == ["psnr", "ssim"]


def test_folders_are_separated_by_commas_unless_a_folder_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b").mkdir()
    for given, wanted in (["a,c"], ["a", "c"]), (["a,b", "c"], ["a,b", "c"]):
        for verb, name in ("train", "val"), ("data check", "test"):
            tokens = [*verb.split(), "A", "B", f"--{name}", *given]
            _, bound, _ = cli.parser([]).parse_args(tokens, exit_on_error=False)
            assert [str(each) for each in bound.arguments[name]] == wanted


@pytest.mark.parametrize("verb", ["serve", "monitor"])
def test_host_names_are_separated_by_commas(verb):
    _, bound, _ = cli.parser([]).parse_args([verb, "--allow-host", "a.org,b.org", "run"], exit_on_error=False)
    assert bound.arguments["allow_host"] == ["a.org", "b.org"] and len(bound.args) == 1


@pytest.mark.parametrize(
    "verb",
    [
        "",
        "train",
        "translate",
        "evaluate",
        "info",
        "import",
        "report",
        "presets",
        "demo",
        "data",
        "data check",
        "data make",
        "data download",
    ],
)
def test_help_fits_and_explains_every_option(call, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "80")
    result = call(*verb.split(), "--help")
    assert (result.code, result.err) == (0, "")
    assert max(len(line.rstrip()) for line in result.out.splitlines()) <= 80
    assert "Usage: twofold " + verb in result.out
    rows = re.findall(r"│ \*? *(--[\w.-]+(?: -\w)?(?: [A-Z.|]+)?) *│", result.out)
    alone = [
        row for row in rows if "-every" not in row and ".no-" not in row
    ]  # the second halves of long names
    assert not alone, "an option without a word of help"
    assert "--no-json" not in result.out and "--empty" not in result.out


def test_help_lists_every_verb(call):
    verbs = [*(verb.rstrip("_") for verb in cli.VERBS), "data"]
    assert re.findall(r"^│ (\w+) {2,}\w", call("--help").out, re.M) == verbs
    assert re.findall(r"^│ (\w+) {2,}\w", call("data", "--help").out, re.M) == cli.DATA_VERBS


def test_train_help_shows_twenty_options_and_names_the_way_to_the_rest(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = call("train", "--help").out
    assert len(re.findall(r"│ (--\S+)", page)) == 20 and len(page.splitlines()) < 65
    assert "twofold train --help-all shows every setting" in page
    assert "Settings:" not in page


def test_help_all_shows_each_setting_once_under_its_short_name(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    page = call("train", "--help-all").out
    assert page == call("--help-all").out
    names = [name.replace("[no-]", "") for name in re.findall(r"│ (--\S+)", page)]
    own = {"--config", "--out", "--resume", "--val", "--dry-run", "--profile", "--json"}
    settings = {path for path, _ in config.flatten(config.schema())} - {
        "a",
        "b",
        "data.val_a",
        "data.val_b",
        "data.hold_out",
    }
    assert sorted(names) == sorted(own | {options.option(path) for path in settings})
    assert all(old.replace("_", "-") not in page for old in config.RENAMED_SETTINGS)
    for room in config.Settings.model_fields:
        assert room in ("method", "preset", "seed") or f"─ Settings: {room} ─" in page
    assert not re.findall(r"^│ (--\S+(?: [A-Z.]+)?) *│$", page, re.M), "an option without a word of help"


def test_other_pages_show_each_option_once(call):
    page = call("evaluate", "--help").out
    assert "--paired" in page and "--unpaired" in page and "[no-]" not in page


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_installed(call, tmp_path, shell):
    file = tmp_path / "completion"
    assert "--install-completion" in call("--help").out
    done = subprocess.run(
        [sys.executable, "-m", "twofold", "--install-completion", "--shell", shell, "-o", str(file)],
        capture_output=True,
        text=True,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    script = file.read_text()
    assert "translate" in script and "decay-epochs" in script


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, cli.SPIN_COUNT),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_threads_spin_for_a_short_time_unless_the_user_says_otherwise(given, found):
    """The count is in the environment before torch loads its OpenMP library."""
    code = """
import sys
from twofold.cli import app
def check(tokens):
    import os
    assert "torch" not in sys.modules
    assert os.environ.get("GOMP_SPINCOUNT") == FOUND
    return 0
app.run = check
app.main()
""".replace("FOUND", repr(found))
    clean = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean | given)
    assert done.returncode == 0, done.stderr


def test_no_command_is_help(call):
    result = call()
    assert result.code == 0 and result.out == call("--help").out and "translate" in result.out
    assert call("data").out == call("data", "--help").out
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", call("--version").out)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "locked/x"),
            1,
            "cannot use locked/x: Permission denied",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "cannot use the disk: No space left on device"),
        (MemoryError(), 1, "out of memory: use a smaller --size, --batch or --at"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (twofold.TwofoldError("two\nlines"), 1, "two lines"),
        (twofold.UsageError("wrong"), 2, "wrong"),
    ],
)
def test_every_error_is_a_line_and_a_code(call, monkeypatch, error, code, line):
    def raises(run):
        raise error

    monkeypatch.setattr("twofold.reporting.report.write_report", raises)
    monkeypatch.setattr(Run, "exists", True)
    result = call("report", "run")
    assert (result.code, result.line, result.out) == (code, line, "")


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m twofold presets | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode in (0, 1) and done.stderr == ""


def test_a_terminal_of_few_letters_is_no_error():
    done = subprocess.run(
        [sys.executable, "-m", "twofold", "presets"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0 and done.stderr == b"" and b"cycle A\\u2192B" in done.stdout


def test_reading_images_in_threads_leaves_the_training_its_own(tmp_path):
    """In a new process, for torch counts threads once; decoding came first there, and left one to the training."""
    for side in "ab":
        for i in range(3):
            images.write(np.full((40, 40, 3), 40 * i, np.uint8), tmp_path / side / f"{i}.png")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "twofold",
            "train",
            "a",
            "b",
            "--size",
            "32",
            "--dry-run",
            "--no-cache",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "2", "TWOFOLD_CACHE": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "  threads: 2\n" in done.stdout


@pytest.mark.parametrize(
    ("action", "code", "out", "err"),
    [("import slow", 130, "", "twofold: interrupted\n"), ("signal.raise_signal(2)", 0, "caught\n", "")],
)
def test_ctrl_c_in_an_import_ends_the_program_at_once(tmp_path, action, code, out, err):
    """An import that is broken off leaves modules half made: torch aborts the program, others raise other errors."""
    (tmp_path / "slow.py").write_text("import signal; signal.raise_signal(2)")
    program = "import signal; from twofold.cli.app import interrupt; signal.signal(2, interrupt)\n"
    program += f"try:\n    {action}\nexcept KeyboardInterrupt:\n    print('caught')"
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)
