"""What the machine is asked for."""

import platform
import subprocess
import sys

import pytest
import torch

from twofold import hardware

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


@pytest.mark.parametrize("version", [1, 2])
def test_the_memory_of_control_groups(tmp_path, version):
    root, own = tmp_path / "cgroup", tmp_path / "self"
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    tree = root if version == 2 else root / "memory"
    limits = {"job/step": (1000, 400, 100), "job": (2000, 1900, 50), "": ("max", 5000, 0)}
    for path, (limit, used, cached) in limits.items():
        (tree / path).mkdir(parents=True, exist_ok=True)
        (tree / path / names[0]).write_text(f"{limit}\n")
        (tree / path / names[1]).write_text(f"{used}\n")
        (tree / path / "memory.stat").write_text(f"anon 7\n{names[2]} {cached}\n")
    own.write_text("0::/job/step\n" if version == 2 else "3:cpu:/other\n4:cpuset,memory:/job/step\n")
    assert list(hardware.cgroup_rooms(root, own)) == [700, 150]
    own.write_text("0::/not/seen/in/this/container\n" if version == 2 else "4:memory:/x\n")
    (tree / names[0]).write_text("6000")
    assert list(hardware.cgroup_rooms(root, own)) == [1000]
    assert list(hardware.cgroup_rooms(root, tmp_path / "none")) == []


def test_free_memory_respects_the_limit_of_a_control_group(monkeypatch):
    monkeypatch.setattr(hardware, "cgroup_rooms", lambda: iter([123456, 2**60]))
    assert hardware.free_memory(torch.device("cpu")) == 123456
    monkeypatch.setattr(hardware, "cgroup_rooms", lambda: iter([-5]))
    assert hardware.free_memory(torch.device("cpu")) == 0
