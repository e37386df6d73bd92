"""The comparison of two checkouts: its figures, and one comparison of this checkout with itself."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_ratio_is_the_median_over_rounds(load_benchmark):
    compare = load_benchmark("compare_commits")
    found = compare.summarise({"before": [2.0, 4.0, 3.0], "after": [1.0, 4.0, 2.0]})
    assert (found["before_s"], found["after_s"], found["ratio"]) == (3.0, 2.0, 1.5)
    assert (found["ratio_min"], found["ratio_max"]) == (1.0, 2.0)
    assert "1.500 (1.000 to 2.000)" in compare.row("cut", found)


@pytest.mark.slow
def test_this_checkout_with_itself(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "compare_commits.py", ROOT, ROOT, "--rounds", "1"]
    command += ["--seconds", "0.1", "--size", "32", "--width", "4", "--methods", "cyclegan", "translation"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for method in ("cyclegan", "translation"):
        assert re.search(rf"^{method} +\d+\.\d+ s +\d+\.\d+ s +\d+\.\d+ \(", done.stdout, re.MULTILINE)
