"""The benchmark of the server: its damaged files, and each of its modes on a small network."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from twofold.formats import images

ROOT = Path(__file__).parents[2]


def test_files_are_whole_before_they_are_damaged(load_benchmark):
    damage = load_benchmark("damage")
    for name, content in damage.whole_files().items():
        suffix = images.recognise(content)
        assert images.read_stored(f"image{suffix}", content).pixels.shape == (24, 24, 3), name
    assert [*damage.damaged(5, seed=1)] == [*damage.damaged(5, seed=1)] != [*damage.damaged(5, seed=2)]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
@pytest.mark.parametrize("mode", ["throughput", "latency", "saturation", "soak", "fuzz"])
def test_a_mode(mode, tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "serve.py", mode, "--seconds", "1", "--rounds", "1"]
    command += ["--width", "4", "--size", "32", "--uploads", "80", "--queue", "16", "--clients", "8"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^{mode}$", done.stdout, re.M)
