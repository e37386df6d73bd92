"""What the machine is asked for."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from twofold.hardware import keep_freed_memory
if {kept}:
    keep_freed_memory()
for _ in range(8):
    torch.ones(2**24)  # 64 MiB; the heap grows to a few times that at first
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_used_again_without_asking_the_system():
    faults = {}
    for kept in (True, False):
        code = FAULTS.format(kept=kept)
        faults[kept] = int(
            subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        )
    assert faults[True] < 100 < faults[False]
