"""The estimate of the memory of a translation, against the memory that it takes."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import numpy as np, torch
from pathlib import Path
from twofold import hardware
from twofold.networks.layers import initialise
from twofold.networks.registry import describe
from twofold.networks.resnet_skips import resnet
from twofold.networks.unet import UnetGenerator
from twofold.translation import memory
from twofold.translation.header import Header
from twofold.translation.translator import Translator

def status(row):
    return next(int(x.split()[1]) * 1024 for x in open("/proc/self/status") if x.startswith(row))

def heap():
    ranges = [x.split()[0].split("-") for x in open("/proc/self/maps") if "[heap]" in x]
    return sum(int(end, 16) - int(start, 16) for start, end in ranges)

hardware.keep_freed_memory()
networks = {
    "resnet": lambda: resnet(width=24, blocks=1),
    "skip": lambda: resnet(width=16, blocks=1, skips=True),
    "cut": lambda: resnet(width=16, blocks=1, antialias=True, upsample="blur"),
    "unet": lambda: UnetGenerator(width=32, depth=6),
}
network = networks[sys.argv[1]]()
initialise(network)
translator = Translator.of(network, Header(describe(network), "ab"), device="cpu", precision=sys.argv[2])
translator.array(np.zeros((128, 128, 3), np.uint8))
before = heap()
memory.peak(network, translator.forward, sys.argv[2], 1)
print(heap() - before)
for size in (1024, 1280):
    picture = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    estimate = memory.peak(network, translator.forward, sys.argv[2], size**2)
    hardware.return_freed_memory()
    before = status("VmRSS")
    for which in range(2):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        translator.array(picture)
        print(estimate / (status("VmHWM") - before))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is measured on Linux")
@pytest.mark.parametrize(
    ("network", "precision", "most"),
    [
        ("resnet", "float32", 1.1),
        ("cut", "bf16", 1.1),
        ("skip", "bf16", 1.1),
        ("unet", "float32", 1.7),  # its library's scratch memory is not touched
    ],
)
def test_the_estimate_is_within_a_tenth(network, precision, most):
    command = [sys.executable, "-c", PROGRAM, network, precision]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "USDT" not in done.stderr
    heap, *shares = (float(line) for line in done.stdout.split())
    assert heap < 2**26, (
        "the pass leaves a large heap, which the translation then fills beside its own blocks"
    )
    assert len(shares) == 4 and all(0.9 < share < most for share in shares), shares
