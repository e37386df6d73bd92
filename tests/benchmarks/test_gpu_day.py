"""The checks of a GPU, rehearsed on a CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from twofold.cli import app as cli

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "gpu_day.py"


@pytest.mark.slow
def test_the_checks_run_on_a_cpu(tmp_path):
    assert cli.run(["data", "make", "seasons", str(tmp_path / "s"), "--count", "12", "--size", "40"]) == 0
    ended = subprocess.run(
        [sys.executable, PROGRAM, tmp_path / "s", "--minutes", "2"],
        env={**os.environ, "GPU_DAY_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    outcomes = dict(line.split(": ", 1) for line in ended.stdout.splitlines() if ": " in line)
    assert all(outcomes[name].startswith("PASS") for name in ("eager", "capture", "fp16", "runs")), (
        ended.stdout
    )
    assert "equal to the bit" in outcomes["runs"] and "no check failed" in ended.stdout


def test_a_check_that_fails_is_printed_and_does_not_stop_the_others(load_benchmark, monkeypatch, capsys):
    monkeypatch.setenv("GPU_DAY_DEVICE", "cpu")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which the program would set, and leave
    monkeypatch.syspath_prepend(PROGRAM.parent)
    day = load_benchmark("gpu_day")
    figures = {}

    def fails():
        day.ensure(False, "two runs differ")

    assert not day.run_check("runs", fails, figures)
    assert not day.run_check("broken", lambda: 1 / 0, figures)
    assert day.run_check("eager", lambda: {"kinds": 9}, figures)
    printed = capsys.readouterr().out
    assert "runs: FAIL (0 s) two runs differ" in printed and "ZeroDivisionError" in printed
    assert "eager: PASS (0 s) kinds 9" in printed and figures == {"eager": {"kinds": 9}}
