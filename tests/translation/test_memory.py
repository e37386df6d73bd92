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

hardware.keep_freed_memory()
networks = {
    "resnet": lambda: resnet(width=24, blocks=1),
    "skip": lambda: resnet(width=16, blocks=1, skips=True, antialias=True),
    "unet": lambda: UnetGenerator(width=32, depth=6),
}
network = networks[sys.argv[1]]()
initialise(network)
translator = Translator.of(network, Header(describe(network), "ab"), device="cpu", precision=sys.argv[2])
translator.array(np.zeros((128, 128, 3), np.uint8))
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
    ("network", "precision"), [("resnet", "float32"), ("skip", "bf16"), ("unet", "bf16")]
)
def test_the_estimate_is_within_15_percent(network, precision):
    command = [sys.executable, "-c", PROGRAM, network, precision]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "USDT" not in done.stderr
    shares = [float(line) for line in done.stdout.split()]
    assert len(shares) == 4 and all(0.85 < share < 1.15 for share in shares), shares
